"""What real xenstore servers answer, request for request: the table is oracle.txt.

All of it is asked of our server, and of Debian's C xenstored where that is installed. One answer of ours is on purpose
another (test_requests.py): a path without its NUL is EINVAL, as from oxenstored. C xenstored answers it with whatever
error the last request left behind.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refimpl.store.wire import Operation

TABLE = Path(__file__).with_name("oracle.txt")

REPEAT = re.compile(r"\{(.+?)\*(\d+)\}")
REQUEST = re.compile(r"(?P<who>\S+) (?P<operation>\S+) (?P<payload>\S+) => (?P<answer>\S+)(?: x(?P<times>\d+))?")
HEARS = re.compile(r"(?P<who>\S+) hears ?(?P<events>.*)")
GETS = re.compile(r"(?P<who>\S+) (?P<operation>\S+) (?P<payload>\S+) gets (?P<types>.+)")
BEGIN = re.compile(r"(?P<who>\S+) begin (?P<name>\S+)")


def cases():
    """Return the table's cases: title and lines."""
    _, *sections = TABLE.read_text().split("\n== ")
    for section in sections:
        title, *lines = section.split("\n\n")[0].splitlines()
        yield pytest.param(lines, id=title)


def payload_of(text):
    """Return the bytes that the table's notation means."""
    if text == "-":
        return b""
    text = REPEAT.sub(lambda found: found[1] * int(found[2]), text).replace("|", "\\x00")
    return text.encode().decode("unicode_escape").encode("latin-1")


def operation_of(text):
    return int(text) if text.isdigit() else Operation[text]


class Conversation:
    """Plays a case's lines against one server."""

    def __init__(self, connect) -> None:
        self._connect = connect
        self._clients = {}
        self._transactions = {}
        self.client("0")

    def client(self, who):
        if who not in self._clients:
            self._clients[who] = self._connect(int(who.rstrip("b")))
        return self._clients[who]

    def play(self, line):
        if found := BEGIN.fullmatch(line):
            self._transactions[found["name"]] = self.client(found["who"]).begin()
        elif found := HEARS.fullmatch(line):
            self._hears(found["who"], found["events"])
        elif found := GETS.fullmatch(line):
            self._gets(found)
        elif found := REQUEST.fullmatch(line):
            for number in range(int(found["times"] or 1)):
                self._asks(found, number)
        else:
            raise ValueError(f"oracle.txt: {line}")

    def _hears(self, who, events):
        heard = [f"{path.decode()} {token.decode()}" for path, token in self.client(who).take_events()]
        assert heard == ([event.strip() for event in events.split(",")] if events else [])

    def _gets(self, found):
        client = self.client(found["who"])
        client.send(operation_of(found["operation"]), payload_of(found["payload"]))
        types = found["types"].split()
        assert [Operation(client.receive().type).name for _ in types] == types

    def _asks(self, found, number):
        who, _, transaction = found["who"].partition("/")
        text = found["payload"]
        payload = payload_of(text % number if found["times"] and "%" in text else text)
        tx_id = self._transactions.get(transaction) or int(transaction or 0)
        reply = self.client(who).request(operation_of(found["operation"]), payload, tx_id)
        assert reply.tx_id == tx_id
        if found["answer"].startswith("!"):
            assert reply.error == found["answer"][1:]
        else:
            assert reply.error is None
            assert (reply.type, reply.payload) == (operation_of(found["operation"]), payload_of(found["answer"]))


@pytest.mark.parametrize("lines", list(cases()))
def test_the_answers_are_those_of_a_real_server(connect, lines):
    conversation = Conversation(connect)
    for line in lines:
        conversation.play(line)


def test_every_line_of_the_table_is_played():
    played = [line for case in cases() for line in case.values[0]]
    text = TABLE.read_text().split("\n== ", 1)[1]
    assert sum(line.startswith(("0", "1", "2", "3")) for line in text.splitlines()) == len(played)
