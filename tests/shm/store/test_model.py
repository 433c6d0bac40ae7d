"""The store against a plain dictionary, with transactions of four clients going on at once.

The dictionary knows nothing of transactions. A transaction that commits must have seen, and must do, what its requests
would see and do if all of them were asked now, in one go; one that does not commit, nothing.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from refimpl.shm.store.permissions import parse
from refimpl.store.wire import OK, Operation, strings

PATHS = [b"/t", b"/t/a", b"/t/a/b", b"/t/a/b/c", b"/t/d", b"/1", b"/1/a", b"/1/a/b", b"/2", b"/u/v/w"]
LISTS = [(b"n0",), (b"r0",), (b"b0", b"n1"), (b"n1",), (b"n1", b"r2"), (b"r2", b"w1"), (b"n2", b"b1")]
CLIENTS = [0, 0, 1, 2]
READING = (Operation.READ, Operation.DIRECTORY, Operation.GET_PERMS)


class PlainStore:
    """Nodes in a dictionary, path to [value, permissions], and the rules in the words of Xen's document."""

    def __init__(self) -> None:
        self.nodes = {path: [b"", (b"n0",)] for path in (b"/", b"/tool", b"/tool/xenstored")}

    def parent(self, path):
        return path.rpartition(b"/")[0] or b"/"

    def may(self, domid, path, letters):
        owner, *others = self.nodes[path][1]
        if domid == 0 or int(owner[1:]) == domid:
            return True
        entry = next((entry for entry in others if int(entry[1:]) == domid), owner)
        return entry[:1] in letters

    def refusal(self, domid, path, letters):
        """Return the error for a node that is missing or forbidden, None for one that is neither."""
        if path in self.nodes and self.may(domid, path, letters):
            return None
        above = self.parent(path)
        while above not in self.nodes:
            above = self.parent(above)
        return "ENOENT" if path not in self.nodes and self.may(domid, above, letters) else "EACCES"

    def create(self, domid, path):
        if path not in self.nodes:
            above = self.parent(path)
            self.create(domid, above)
            owner, *others = self.nodes[above][1]
            self.nodes[path] = [b"", ((owner[:1] + b"%d" % domid if domid else owner), *others)]

    def ask(self, domid, operation, path, extra):
        """Do the request; return its answer."""
        refusal = self.refusal(domid, path, b"rb" if operation in READING else b"wb")
        if operation == Operation.SET_PERMS and refusal is None:
            owner = self.nodes[path][1][0][1:]
            if domid not in (0, int(owner)):
                refusal = "EACCES"
            elif domid and extra[0][1:] != owner:
                refusal = "EPERM"
        creates = operation in (Operation.WRITE, Operation.MKDIR) and refusal == "ENOENT"
        if operation == Operation.RM and refusal == "ENOENT":
            return OK if self.parent(path) in self.nodes else "ENOENT"
        if refusal and not creates:
            return refusal
        return self.do(domid, operation, path, extra)

    def do(self, domid, operation, path, extra):
        match operation:
            case Operation.READ:
                return self.nodes[path][0]
            case Operation.DIRECTORY:
                return sorted(child for child in self.nodes if self.parent(child) == path and child != b"/")
            case Operation.GET_PERMS:
                return strings(*self.nodes[path][1])
            case Operation.WRITE:
                self.create(domid, path)
                self.nodes[path][0] = extra
            case Operation.MKDIR:
                self.create(domid, path)
            case Operation.SET_PERMS:
                self.nodes[path][1] = extra
            case Operation.RM:
                for below in [node for node in self.nodes if node == path or node.startswith(path + b"/")]:
                    del self.nodes[below]
        return OK


class Transactions(RuleBasedStateMachine):
    """Asks the store and the dictionary the same."""

    new_database = speak = None

    @initialize()
    def start(self):
        self.plain = PlainStore()
        self.database = self.new_database()
        self.clients = [self.speak(self.database, domid) for domid in CLIENTS]
        #: Counts what was changed and committed.
        self.changes = 0
        #: (client, id): the requests with the answers it saw, and the count at its start.
        self.open = {}
        for path, entries in ((b"/t", (b"b0",)), (b"/1", (b"n1",)), (b"/2", (b"n2",))):
            self.request(0, Operation.WRITE, path, b"", None)
            self.request(0, Operation.SET_PERMS, path, entries, None)

    def answer(self, who, operation, path, extra, tx_id):
        payload = strings(path, *extra) if isinstance(extra, tuple) else strings(path) + extra
        reply = self.clients[who].request(operation, payload, tx_id)
        if operation == Operation.DIRECTORY and not reply.error:
            return sorted(path.rstrip(b"/") + b"/" + name for name in reply.payload.split(b"\0")[:-1])
        return reply.error or reply.payload

    @rule(
        who=st.sampled_from(range(len(CLIENTS))),
        operation=st.sampled_from(
            [
                *READING,
                *(Operation.MKDIR, Operation.RM, Operation.WRITE, Operation.WRITE, Operation.SET_PERMS),
            ]
        ),
        path=st.sampled_from(PATHS),
        value=st.sampled_from([b"", b"v", b"w"]),
        entries=st.sampled_from(LISTS),
        choose=st.none() | st.integers(0, 3),
    )
    def ask(self, who, operation, path, value, entries, choose):
        extra = {Operation.WRITE: value, Operation.SET_PERMS: entries}.get(operation, b"")
        self.request(who, operation, path, extra, choose)

    def request(self, who, operation, path, extra, choose):
        mine = sorted(tx_id for client, tx_id in self.open if client == who)
        if choose is None or not mine:
            seen = self.answer(who, operation, path, extra, 0)
            assert seen == self.plain.ask(CLIENTS[who], operation, path, extra)
            self.changes += operation not in READING
        else:
            tx_id = mine[choose % len(mine)]
            seen = self.answer(who, operation, path, extra, tx_id)
            self.open[who, tx_id][0].append((operation, path, extra, seen))

    @precondition(lambda self: len(self.open) < 6)
    @rule(who=st.sampled_from(range(len(CLIENTS))))
    def begin(self, who):
        self.open[who, self.clients[who].begin()] = ([], self.changes)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), commit=st.booleans() | st.just(True))
    def end(self, data, commit):
        who, tx_id = data.draw(st.sampled_from(sorted(self.open)))
        requests, changes_before = self.open.pop((who, tx_id))
        reply = self.clients[who].end(tx_id, commit=commit)
        if not commit:
            assert reply.payload == OK
        elif reply.error:
            assert reply.error == "EAGAIN"
            assert self.changes > changes_before
        else:
            for operation, path, extra, seen in requests:
                assert seen == self.plain.ask(CLIENTS[who], operation, path, extra)
            self.changes += 1

    @invariant()
    def both_hold_the_same(self):
        if hasattr(self, "plain"):
            there = self.database.tree._nodes
            assert {path: [node.value, tuple(node.permissions)] for path, node in there.items()} == {
                path: [value, parse(entries)] for path, (value, entries) in self.plain.nodes.items()
            }
            for domid in (0, 1, 2):
                owned = sum(node.owner == domid for node in there.values())
                assert self.database.domains.usage(domid).nodes == owned


def test_against_a_plain_dictionary(new_database, speak):
    class Machine(Transactions):
        pass

    Machine.new_database, Machine.speak = staticmethod(new_database), staticmethod(speak)
    run_state_machine_as_test(Machine, settings=settings(deadline=None, max_examples=60, stateful_step_count=60))
