"""What the requests send and what their answers become, against a server that the test plays."""

from __future__ import annotations

import threading

import pytest

from refimpl.errors import (
    Misuse,
    StoreAccessRefused,
    StoreConflict,
    StoreError,
    StoreExists,
    StoreLost,
    StoreNoEntry,
    StoreQuotaReached,
)
from refimpl.platform import StoreView
from refimpl.ready import is_readable
from refimpl.store.client import MOST_ATTEMPTS
from refimpl.store.wire import OK, Operation, strings

PATIENCE = 30.0


def answered(client, payload: bytes, call, *arguments):
    """Make a call, answer it, return the request the server saw and the call's result."""
    running = client.start(call, *arguments)
    request = client.server.receive()
    client.server.answer(request, payload)
    return request, running.result(PATIENCE)


def test_the_requests_on_the_wire(play) -> None:
    client = play()
    store = client.store
    for call, arguments, payload, kind, sent, result in (
        (store.read, ("/a",), b"v", Operation.READ, b"/a\0", b"v"),
        (store.write, ("/a", b"v"), OK, Operation.WRITE, b"/a\0v", None),
        (store.make_directory, ("/a",), OK, Operation.MKDIR, b"/a\0", None),
        (store.remove, ("/a",), OK, Operation.RM, b"/a\0", None),
        (store.list, ("/a",), b"x\0y\0", Operation.DIRECTORY, b"/a\0", ["x", "y"]),
        (store.list, ("/a",), b"", Operation.DIRECTORY, b"/a\0", []),
        (store.get_permissions, ("/a",), b"n1\0r0\0", Operation.GET_PERMS, b"/a\0", ["n1", "r0"]),
        (store.set_permissions, ("/a", ["n1", "b0"]), OK, Operation.SET_PERMS, b"/a\0n1\0b0\0", None),
        (store.is_introduced, (7,), b"T\0", Operation.IS_DOMAIN_INTRODUCED, b"7\0", True),
        (store.is_introduced, (7,), b"F\0", Operation.IS_DOMAIN_INTRODUCED, b"7\0", False),
    ):
        request, returned = answered(client, payload, call, *arguments)
        assert (request.kind, request.payload, returned) == (kind, sent, result)
        assert request.transaction_id == 0


@pytest.mark.parametrize("value", [b"", b"\0", b"v\0\0", b"two\nlines\n", bytes(range(256)), b"\xff" * 4000])
def test_a_value_is_any_bytes_both_ways(play, value: bytes) -> None:
    client = play()
    request, _ = answered(client, OK, client.store.write, "/a", value)
    assert request.payload == b"/a\0" + value
    _, read = answered(client, value, client.store.read, "/a")
    assert read == value


def test_values_need_not_be_bytes_objects(play) -> None:
    client = play()
    for value in (bytearray(b"v"), memoryview(b"v")):
        request, _ = answered(client, OK, client.store.write, "/a", value)
        assert request.payload == b"/a\0v"


@pytest.mark.parametrize(
    ("word", "kind", "name"),
    [
        (b"ENOENT\0", StoreNoEntry, "ENOENT"),
        (b"ENOENT", StoreNoEntry, "ENOENT"),
        (b"EACCES\0", StoreAccessRefused, "EACCES"),
        (b"EPERM\0", StoreAccessRefused, "EPERM"),
        (b"EEXIST\0", StoreExists, "EEXIST"),
        (b"EAGAIN\0", StoreConflict, "EAGAIN"),
        (b"ENOSPC\0", StoreQuotaReached, "ENOSPC"),
        (b"EDQUOT\0", StoreQuotaReached, "EDQUOT"),
        (b"EINVAL\0", StoreError, "EINVAL"),
        (b"EUNHEARDOF\0", StoreError, "EUNHEARDOF"),
        (b"\0", StoreError, "an error without a name"),
        (b"", StoreError, "an error without a name"),
        (b"\xff\xfe\0", StoreError, r"\xff\xfe"),
        (b"errorcode\0", StoreError, "errorcode"),
        (b"E" * 4000, StoreError, "E" * 32),
    ],
)
def test_errors_by_their_word(play, word: bytes, kind: type[StoreError], name: str) -> None:
    client = play()
    call = client.start(client.store.read, "/a")
    client.server.refuse(client.server.receive(), word)
    with pytest.raises(StoreError) as caught:
        call.result(PATIENCE)
    assert type(caught.value) is kind
    assert (caught.value.error_name, caught.value.path) == (name, "/a")


@pytest.mark.parametrize("path", ["", "/a//b", "/a/", "/a b", "/a.b", "/a\0", "/a\0b", "/ä", "/" + "a" * 3072])
def test_what_is_no_path_is_refused_before_it_is_sent(play, path: str) -> None:
    client = play()
    for call in (
        lambda: client.store.read(path),
        lambda: client.store.write(path, b"v"),
        lambda: client.store.list(path),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.error_name == "EINVAL"
    request, _ = answered(client, b"v", client.store.read, "/a")
    assert request.payload == b"/a\0"


@pytest.mark.parametrize("entry", ["x1", "n", "1", "n-1", "", "r1\0", "rä"])
def test_what_is_no_permission_is_refused(play, entry: str) -> None:
    client = play()
    with pytest.raises(StoreError) as caught:
        client.store.set_permissions("/a", ["n0", entry])
    assert caught.value.error_name == "EINVAL"


def test_path_and_value_must_fit_one_request(play) -> None:
    client = play()
    answered(client, OK, client.store.write, "/a", bytes(4093))
    with pytest.raises(StoreQuotaReached) as caught:
        client.store.write("/a", bytes(4094))
    assert caught.value.error_name == "E2BIG"
    answered(client, OK, client.store.write, "/a", b"the connection lives")


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda store: store.write("/a", b""), b"NO\0"),
        (lambda store: store.is_introduced(1), b"perhaps\0"),
        (lambda store: store.transact(lambda view: None), b"not a number\0"),
        (lambda store: store.watch("/a", lambda path: None), b""),
    ],
)
def test_an_answer_that_makes_no_sense_is_a_loss(play, call, answer: bytes) -> None:
    client = play()
    running = client.start(call, client.store)
    client.server.answer(client.server.receive(), answer)
    with pytest.raises(StoreLost) as caught:
        running.result(PATIENCE)
    assert caught.value.error_name == "EPROTO"


def test_watches_of_paths_pyxs_refuses(play) -> None:
    client = play()
    call = client.start(client.store.watch, "@releaseDomain/7", lambda path: None)
    request = client.server.expect(Operation.WATCH)
    assert request.payload.startswith(b"@releaseDomain/7\0")
    client.server.answer(request)
    call.result(PATIENCE)
    with pytest.raises(StoreError):
        client.store.watch("/a\0b", lambda path: None)


class TestDirectoryInParts:
    def serve(self, client, names: list[bytes], sizes: list[int], generations: list[bytes] | None = None) -> list[int]:
        """Refuse the whole list, then hand it out in pieces of so many names; return the offsets asked for."""
        client.server.refuse(client.server.expect(Operation.DIRECTORY), b"E2BIG\0")
        text = strings(*names)
        offsets = []
        for turn, size in enumerate(sizes):
            request = client.server.expect(Operation.DIRECTORY_PART)
            path, offset = request.payload.split(b"\0")[:2]
            assert path == b"/a"
            offsets.append(int(offset))
            rest = text[offsets[-1] :].split(b"\0")[:-1]
            piece = strings(*rest[:size]) + (b"\0" if size >= len(rest) else b"")
            generation = generations[turn] if generations else b"7"
            client.server.answer(request, generation + b"\0" + piece)
        return offsets

    def test_pieces_are_put_together(self, play) -> None:
        client = play()
        call = client.start(client.store.list, "/a")
        names = [b"n%d" % number for number in range(10)]
        assert self.serve(client, names, [3, 3, 3, 3]) == [0, 9, 18, 27]
        assert call.result(PATIENCE) == [name.decode() for name in names]

    def test_the_last_piece_may_be_full(self, play) -> None:
        client = play()
        call = client.start(client.store.list, "/a")
        self.serve(client, [b"x", b"y"], [1, 1])
        assert call.result(PATIENCE) == ["x", "y"]

    def test_emptied_between_the_questions(self, play) -> None:
        client = play()
        call = client.start(client.store.list, "/a")
        self.serve(client, [], [1])
        assert call.result(PATIENCE) == []

    def test_changed_between_the_pieces(self, play) -> None:
        client = play()
        call = client.start(client.store.list, "/a")
        offsets = self.serve(client, [b"x", b"y", b"z"], [1, 1, 2, 2], [b"7", b"8", b"8", b"8"])
        assert offsets == [0, 2, 0, 4]
        assert call.result(PATIENCE) == ["x", "y", "z"]

    def test_a_server_without_parts(self, play) -> None:
        client = play()
        call = client.start(client.store.list, "/a")
        client.server.refuse(client.server.expect(Operation.DIRECTORY), b"E2BIG\0")
        client.server.refuse(client.server.expect(Operation.DIRECTORY_PART), b"ENOSYS\0")
        with pytest.raises(StoreQuotaReached):
            call.result(PATIENCE)

    def test_removed_between_the_questions(self, play) -> None:
        client = play()
        call = client.start(client.store.list, "/a")
        client.server.refuse(client.server.expect(Operation.DIRECTORY), b"E2BIG\0")
        client.server.refuse(client.server.expect(Operation.DIRECTORY_PART), b"ENOENT\0")
        with pytest.raises(StoreNoEntry):
            call.result(PATIENCE)

    @pytest.mark.parametrize("piece", [b"", b"7", b"7\0"])
    def test_pieces_that_bring_nothing(self, play, piece: bytes) -> None:
        client = play()
        call = client.start(client.store.list, "/a")
        client.server.refuse(client.server.expect(Operation.DIRECTORY), b"E2BIG\0")
        client.server.answer(client.server.expect(Operation.DIRECTORY_PART), piece)
        with pytest.raises(StoreLost):
            call.result(PATIENCE)

    def test_pieces_without_end(self, play) -> None:
        client = play()
        call = client.start(client.store.list, "/a")
        client.server.refuse(client.server.expect(Operation.DIRECTORY), b"E2BIG\0")
        while not call.done():
            try:
                request = client.server.expect(Operation.DIRECTORY_PART)
            except AssertionError:  # It has hung up.
                break
            client.server.answer(request, b"7\0" + b"x\0" * 100_000)
        with pytest.raises(StoreLost):
            call.result(PATIENCE)

    def test_a_directory_that_never_stays_the_same(self, play) -> None:
        client = play(timeout=0.3)
        call = client.start(client.store.list, "/a")
        client.server.refuse(client.server.expect(Operation.DIRECTORY), b"E2BIG\0")
        generation = 0
        while not call.done():
            try:
                request = client.server.expect(Operation.DIRECTORY_PART)
            except AssertionError:
                break
            generation += 1
            client.server.answer(request, b"%d\0x\0" % generation)
        with pytest.raises(StoreLost):
            call.result(PATIENCE)


class TestTransactions:
    def start(self, client, number: int) -> None:
        request = client.server.expect(Operation.TRANSACTION_START)
        assert (request.payload, request.transaction_id) == (b"\0", 0)
        client.server.answer(request, b"%d\0" % number)

    def end(self, client, number: int, flag: bytes, error: bytes | None = None) -> None:
        request = client.server.expect(Operation.TRANSACTION_END)
        assert (request.payload, request.transaction_id) == (flag + b"\0", number)
        if error is None:
            client.server.answer(request)
        else:
            client.server.refuse(request, error)

    def test_its_requests_carry_its_id_and_no_others_do(self, play) -> None:
        client = play()

        def action(view: StoreView) -> tuple[bytes, bytes]:
            return view.read("/inside"), client.store.read("/outside")

        call = client.start(client.store.transact, action)
        self.start(client, 5)
        inside = client.server.expect(Operation.READ)
        client.server.answer(inside, b"in")
        outside = client.server.expect(Operation.READ)
        client.server.answer(outside, b"out")
        self.end(client, 5, b"T")
        assert call.result(PATIENCE) == (b"in", b"out")
        assert (inside.transaction_id, outside.transaction_id) == (5, 0)

    def test_two_at_once(self, play) -> None:
        client = play()
        both = threading.Barrier(2)

        def action(view: StoreView) -> bytes:
            both.wait(PATIENCE)
            return view.read("/a")

        calls = [client.start(client.store.transact, action) for _ in range(2)]
        self.start(client, 1)
        self.start(client, 2)
        requests = [client.server.expect(Operation.READ) for _ in calls]
        assert {request.transaction_id for request in requests} == {1, 2}
        for request in requests:
            client.server.answer(request, b"%d" % request.transaction_id)
        for _ in calls:
            client.server.answer(client.server.expect(Operation.TRANSACTION_END))
        assert {call.result(PATIENCE) for call in calls} == {b"1", b"2"}

    def test_a_conflict_does_all_of_it_again(self, play) -> None:
        client = play()
        runs = []
        call = client.start(client.store.transact, lambda view: runs.append(1) or len(runs))
        for number in (1, 2):
            self.start(client, number)
            self.end(client, number, b"T", b"EAGAIN\0")
        self.start(client, 3)
        self.end(client, 3, b"T")
        assert call.result(PATIENCE) == 3

    def test_conflicts_without_end_come_to_one(self, play) -> None:
        client = play()
        call = client.start(client.store.transact, lambda view: None)
        for number in range(1, MOST_ATTEMPTS + 1):
            self.start(client, number)
            self.end(client, number, b"T", b"EAGAIN\0")
        with pytest.raises(StoreConflict):
            call.result(PATIENCE)

    def test_an_exception_aborts_it_and_comes_out(self, play) -> None:
        client = play()

        def action(view: StoreView) -> None:
            raise LookupError("mine")

        call = client.start(client.store.transact, action)
        self.start(client, 5)
        self.end(client, 5, b"F", b"ENOENT\0")  # Even if the server knows nothing of it any more.
        with pytest.raises(LookupError, match="mine"):
            call.result(PATIENCE)

    def test_a_refusal_in_it_may_be_a_conflict(self, play) -> None:
        client = play()
        call = client.start(client.store.transact, lambda view: view.remove("/a/b"))
        for number in (1, 2):
            self.start(client, number)
            client.server.refuse(client.server.expect(Operation.RM), b"EINVAL\0")
            self.end(client, number, b"F")
        self.start(client, 3)
        client.server.answer(client.server.expect(Operation.RM))
        self.end(client, 3, b"T")
        assert call.result(PATIENCE) is None

    def test_a_refusal_that_comes_again_comes_out(self, play) -> None:
        client = play()
        call = client.start(client.store.transact, lambda view: view.read("/a"))
        for number in range(1, 6):
            self.start(client, number)
            client.server.refuse(client.server.expect(Operation.READ), b"ENOENT\0")
            self.end(client, number, b"F")
        with pytest.raises(StoreNoEntry):
            call.result(PATIENCE)

    def test_a_refusal_that_the_action_expects_is_its_own(self, play) -> None:
        client = play()
        call = client.start(client.store.transact, lambda view: view.read_or_none("/a"))
        self.start(client, 1)
        client.server.refuse(client.server.expect(Operation.READ), b"ENOENT\0")
        self.end(client, 1, b"T")
        assert call.result(PATIENCE) is None

    def test_an_error_of_the_action_s_own_comes_out_at_once(self, play) -> None:
        client = play()

        def action(view: StoreView) -> None:
            assert view.read_or_none("/a") is None
            raise StoreExists("EEXIST", "/a")

        call = client.start(client.store.transact, action)
        self.start(client, 1)
        client.server.refuse(client.server.expect(Operation.READ), b"ENOENT\0")
        self.end(client, 1, b"F")
        with pytest.raises(StoreExists):
            call.result(PATIENCE)

    def test_the_server_dies_in_it(self, play) -> None:
        client = play()
        call = client.start(client.store.transact, lambda view: view.write("/a", b"v"))
        self.start(client, 5)
        client.server.expect(Operation.WRITE)
        client.server.close()
        with pytest.raises(StoreLost):
            call.result(PATIENCE)

    def test_no_transaction_to_be_had(self, play) -> None:
        client = play()
        call = client.start(client.store.transact, lambda view: None)
        client.server.refuse(client.server.expect(Operation.TRANSACTION_START), b"ENOSPC\0")
        with pytest.raises(StoreQuotaReached):
            call.result(PATIENCE)

    def test_its_view_is_dead_afterwards(self, play) -> None:
        client = play()
        call = client.start(client.store.transact, lambda view: view)
        self.start(client, 5)
        self.end(client, 5, b"T")
        view = call.result(PATIENCE)
        with pytest.raises(Misuse):
            view.write("/a", b"would be written outside any transaction")


def test_eight_threads_of_mixed_calls_lose_no_answer(play) -> None:
    """Each answer echoes its request; they come in pieces and out of order."""
    client = play()
    rounds = 60

    def work(own: int) -> None:
        for turn in range(rounds):
            path = f"/{own}/{turn}"
            assert client.store.read(path) == path.encode() + b"\0"
            client.store.write(path, b"%d" % turn)
            assert client.store.list(path) == [path]
            client.store.set_permissions(path, ["n0"])

    workers = [client.start(work, own) for own in range(8)]
    held = []
    for _ in range(8 * rounds * 4):
        request = client.server.receive()
        is_question = request.kind in (Operation.READ, Operation.DIRECTORY)
        held.append((request, request.payload if is_question else OK))
        if not is_readable(client.server.descriptor, 0):
            for waiting, payload in reversed(held):
                client.server.answer(waiting, payload)
            held.clear()
    for worker in workers:
        worker.result(PATIENCE)
