"""Commands Ring: the page, its slots and indexes, what all responses have in common; Error numbers."""

from __future__ import annotations

from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.numbers import BESIDE_THE_TABLE, ENOTSUP, EOPNOTSUPP, TABLE
from refimpl.conform.probes import Failed, Probes, expect, require
from refimpl.testing import raw

probe = Probes()


@probe("RING-1", "RING-13")
def slots_are_used_in_turn_and_again(guest: Guest) -> None:
    """Request n is in slot n mod 32 and so is response n, for more of them than there are slots."""
    for _ in range(2 * raw.SLOTS + 3):
        guest.ask(raw.release_request, guest.number())


@probe("RING-1", "RING-13")
def a_full_ring_is_answered_whole(guest: Guest) -> None:
    """32 requests at once, a full ring, are all answered."""
    numbers = [guest.number() for _ in range(raw.SLOTS)]
    guest.front.push(*(raw.release_request(number, number) for number in numbers))
    for number in numbers:
        guest.answer(number)


@probe("RING-13")
def responses_have_an_index_of_their_own(guest: Guest) -> None:
    """While one request waits, the responses of later ones take the next slots all the same, and its own comes last."""
    listener = guest.listener()
    polled = listener.poll()
    for _ in range(raw.SLOTS + 2):
        guest.ask(raw.release_request, guest.number())
    guest.active(listener.port_number)
    guest.answer(polled)


@probe("RING-4")
def commands_have_the_numbers_of_the_definitions(guest: Guest) -> None:
    """SOCKET is 0, CONNECT 1, RELEASE 2, BIND 3, LISTEN 4, ACCEPT 5, POLL 6: none of them is unknown."""
    for cmd in range(7):
        if cmd in (raw.ACCEPT, raw.POLL):
            continue  # Of an unknown id, these are for the sections on them.
        answer = guest.ask(lambda req_id, cmd=cmd: raw.request(cmd, req_id, guest.number().to_bytes(8, "little")))
        require(answer.ret not in (ENOTSUP, EOPNOTSUPP) or cmd == raw.SOCKET, f"cmd {cmd} is answered {answer.ret}")
    guest.stream()


@probe("RING-5", "RING-6")
def requests_are_64_bytes_apart(guest: Guest) -> None:
    """Two requests put in one after the other, 64 bytes apart, are both understood."""
    first, second = guest.number(), guest.number()
    guest.front.push(raw.socket_request(first, first), raw.socket_request(second, second))
    for req_id in (first, second):
        expect("ret of SOCKET", guest.answer(req_id).ret, 0)
        guest.ask(raw.release_request, req_id)


@probe("RING-9")
def responses_carry_req_id_and_cmd(guest: Guest) -> None:
    """Any 32 bits of req_id come back, and so does cmd, of commands known and unknown."""
    for req_id in (0, 31, 32, 2**31, 2**32 - 1):
        for slot in (raw.release_request(req_id, guest.number()), raw.request(99, req_id)):
            answer = guest.front.call(slot)
            expect("the response's cmd", answer.cmd, raw.RawRequest(slot).cmd)


@probe("RING-9")
def one_req_id_may_be_in_flight_twice(guest: Guest) -> None:
    """Two requests with one req_id, as Linux's frontend sends them, are both answered."""
    guest.front.push(raw.release_request(5, guest.number()), raw.request(99, 5))
    cmds = {guest.answer(5).cmd, guest.answer(5).cmd}
    require(cmds == {raw.RELEASE, 99}, f"they are answered with cmd {sorted(cmds)}", under="E-REQID")


@probe("RING-14")
def a_response_is_24_bytes(guest: Guest) -> None:
    """req_id at 0, cmd at 4, ret at 8, pad at 12, id at 16, and not a byte after them."""
    front, req_id, id = guest.front, guest.number(), 0xFEDCBA9876543210
    place = front.rsp_cons
    slot = raw.release_request(req_id, id)[:24] + b"\xa5" * 40
    front.push(slot)
    guest.answer(req_id)
    written = front.commands.slot(place)
    expect("req_id, cmd and id of the response", (written[:8], written[16:24]), (slot[:8], slot[8:16]))
    expect("what follows the response in its slot", written[24:], b"\xa5" * 40)


@probe("RING-14")
def a_response_is_written_whole(guest: Guest) -> None:
    """Pad is 0, and the id is there for a command that nobody knows too."""
    front, req_id = guest.front, guest.number()
    place = front.rsp_cons
    front.commands.put(place, b"\x5a" * 64)
    front.push(raw.request(77, req_id, b"\xa5" * 56))
    answer = guest.answer(req_id)
    expect("pad", answer.pad, 0, under="E-PADRSP")
    expect("the id of an unknown command's response", answer.id, 0xA5A5A5A5A5A5A5A5, under="E-PADRSP")


@probe("RING-15", "ERRNO-1")
def ret_is_0_or_a_negative_number_of_the_table(guest: Guest) -> None:
    """What goes wrong is answered with a negative number that the document lists, or Linux's where it lists none."""
    seen = {
        "SOCKET of family 10": guest.ask(raw.socket_request, guest.number(), 10).ret,
        "cmd 9": guest.ask(lambda req_id: raw.request(9, req_id)).ret,
        "CONNECT to nobody": guest.connect_to(guest.nobody()),
        "LISTEN of an unknown id": guest.ask(raw.listen_request, guest.number()).ret,
        "BIND to an address not the backend's": guest.ask(
            raw.bind_request, guest.socket(), raw.address("203.0.113.1", 20000)
        ).ret,
    }
    for what, ret in seen.items():
        if ret not in TABLE and ret not in BESIDE_THE_TABLE:
            raise Failed(f"{what} is answered {ret}")


@probe("RING-18")
def a_response_is_notified_when_it_was_asked_for(guest: Guest) -> None:
    """With rsp_event at the next response an event comes with it; with rsp_event passed by, none is owed."""
    front = guest.front
    for _ in range(3):
        guest.quiet()
        front.commands["rsp_event"] = front.rsp_cons + 1
        req_id = guest.push(raw.release_request, guest.number())
        require(guest.hears(front.port), "a response was published past rsp_event, and no event came")
        guest.answer(req_id)


@probe("ERRNO-2")
def enotsup_is_524(guest: Guest) -> None:
    """ENOTSUP is -524 on the wire."""
    ret = guest.ask(lambda req_id: raw.request(200, req_id)).ret
    expect("ENOTSUP", ret, ENOTSUP, under="E-ENOTSUP" if ret == EOPNOTSUPP else None)
