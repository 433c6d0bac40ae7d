"""Commands Ring: the requests of a frontend, command by command; Socket families and address format."""

from __future__ import annotations

from refimpl.conform.frontend.observed import NAMES, Asked, Observed
from refimpl.conform.probes import NotObservable, Probes, expect, require
from refimpl.testing import raw

probe = Probes()
EVERY = tuple(range(7))
WITH_ADDRESS = (raw.CONNECT, raw.BIND)


def name(asked: Asked) -> str:
    """Name a request in words."""
    return f"{NAMES.get(asked.cmd, asked.cmd)} {asked.index}"


@probe("RING-4", "RING-5", "RING-6", "RING-8", "RING-11")
def every_request_is_one_of_the_seven(observed: Observed) -> None:
    """Every 64-byte slot has a cmd from 0 to 6."""
    if not observed.requests:
        raise NotObservable("no program made a call")
    others = [each.cmd for each in observed.requests if each.cmd not in EVERY]
    require(not others, f"cmd is {others}")


@probe("RING-7")
def req_ids_tell_requests_apart(observed: Observed) -> None:
    """No two requests are in flight with one req_id."""
    if not observed.requests:
        raise NotObservable("no program made a call")
    twice = [name(each) for each in observed.requests if each.request.req_id in each.in_flight]
    require(not twice, f"{', '.join(twice)}: the req_id is in flight already", under="E-REQID")


@probe("RING-12")
def requests_are_notified_of(observed: Observed) -> None:
    """With req_event at the next request an event comes with it."""
    observed.of(*EVERY)
    observed.check("RING-12")


@probe("SOCKET-2")
def ids_name_one_socket_each(observed: Observed) -> None:
    """SOCKET's id names no other socket, and what follows names the sockets that were made."""
    observed.of(raw.SOCKET)
    observed.check("SOCKET-2")
    unknown = [name(each) for each in observed.requests if each.cmd in WITH_ADDRESS and not each.socket_was]
    require(not unknown, f"{', '.join(unknown)}: the id was no SOCKET's")


@probe("SOCKET-4", "FAMILY-1", "FAMILY-3")
def sockets_are_inet_streams(observed: Observed) -> None:
    """SOCKET has domain 2, type 1 and protocol 0 at 16, 20 and 24."""
    for each in observed.of(raw.SOCKET):
        triple = each.field(16, 4), each.field(20, 4), each.field(24, 4)
        expect(f"domain, type and protocol of {name(each)}", triple, {(2, 1, 0)})


@probe("CONNECT-13", "CONNECT-4")
def connect_names_a_ring(observed: Observed) -> None:
    """CONNECT's ref, at 52, is the grant of an indexes page with grants that can all be mapped."""
    observed.of(raw.CONNECT)
    observed.check("CONNECT-4")
    observed.some_rings(raw.CONNECT)


@probe("CONNECT-2")
def every_connect_has_a_ring_of_its_own(observed: Observed) -> None:
    """Each CONNECT that succeeds brings a data ring whose indexes are new: nothing produced, nothing consumed."""
    for seen in observed.some_rings(raw.CONNECT):
        require(set(seen.first_words.values()) == {0}, f"{seen.first_words}", under="E-IDXINIT")


@probe("CONNECT-3")
def every_connect_has_an_event_channel_of_its_own(observed: Observed) -> None:
    """CONNECT's evtchn, at 56, can be bound, which one in use cannot."""
    observed.check("CONNECT-3")
    observed.some_rings(raw.CONNECT)


@probe("CONNECT-14")
def connects_address_has_a_length(observed: Observed) -> None:
    """CONNECT's `len` is the address's, at most 28."""
    _check_length(observed, raw.CONNECT)


@probe("CONNECT-15")
def flags_are_0(observed: Observed) -> None:
    """CONNECT's `flags` is 0."""
    for each in observed.of(raw.CONNECT):
        expect(f"flags of {name(each)}", each.field(48, 4), 0, under="E-FLAGS")


@probe("RELEASE-5")
def grants_last_until_release_is_answered(observed: Observed) -> None:
    """While RELEASE is not answered the page's and the ring's grants can still be mapped."""
    tried = [seen for seen in observed.some_rings() if seen.held_until_reply is not None]
    if not tried:
        raise NotObservable("no connected socket was released")
    require(all(seen.held_until_reply for seen in tried), "its grants had ended before RELEASE was answered")


@probe("RELEASE-6")
def release_names_a_socket(observed: Observed) -> None:
    """RELEASE's id names a socket, and `reuse`, at 16, is 0 or 1."""
    for each in observed.of(raw.RELEASE):
        require(each.socket_was, f"{name(each)}: no socket has the id", under="E-REL-UNKNOWN")
        expect(f"reuse of {name(each)}", each.field(16, 1), {0, 1}, under="E-REUSE")


@probe("RELEASE-8")
def a_promise_to_reuse_is_kept(observed: Observed) -> None:
    """After RELEASE with `reuse` 1 one of the next rings has the same page and event channel."""
    promised = [each for each in observed.of(raw.RELEASE) if each.field(16, 1) == 1]
    if not promised:
        raise NotObservable("no RELEASE had reuse 1")
    later = [each for each in observed.of(raw.CONNECT, raw.ACCEPT) if each.index > promised[0].index]
    if not later:
        raise NotObservable("no connection came after a RELEASE with reuse 1")
    rings = [(seen.ref, seen.evtchn) for seen in observed.rings]
    require(len(set(rings)) < len(rings), "reuse was 1, and no later ring was one of before", under="E-REUSE")


@probe("BIND-2")
def bind_listen_accept_come_in_order(observed: Observed) -> None:
    """LISTEN comes for a bound socket, ACCEPT for one that listens."""
    observed.of(raw.LISTEN, raw.ACCEPT)
    observed.check("BIND-2")


@probe("BIND-3")
def bind_has_an_address(observed: Observed) -> None:
    """BIND has the socket's id at 8 and at 16 an address of AF_INET."""
    for each in observed.of(raw.BIND):
        expect(f"the family in {name(each)}", int.from_bytes(each.addr[:2], "little"), 2)


@probe("BIND-4")
def binds_address_has_a_length(observed: Observed) -> None:
    """BIND's `len` is the address's, at most 28."""
    _check_length(observed, raw.BIND)


@probe("LISTEN-2")
def listen_has_a_backlog(observed: Observed) -> None:
    """LISTEN has the socket's id at 8 and at 16 the backlog that the program asked for."""
    backlogs = {each.field(16, 4) for each in observed.of(raw.LISTEN)}
    if "listen" in observed.told:
        require(backlogs == {5}, f"backlog is {backlogs}, not 5, the driver's")


@probe("ACCEPT-2", "ACCEPT-13")
def accept_names_a_new_socket(observed: Observed) -> None:
    """ACCEPT's id_new, at 16, names no other socket, and is what the new one's RELEASE says."""
    accepts = observed.of(raw.ACCEPT)
    observed.check("ACCEPT-2")
    released = {each.request.id for each in observed.requests if each.cmd == raw.RELEASE}
    new = {each.field(16, 8) for each in accepts}
    require(not observed.some_rings(raw.ACCEPT) or new & released, "no accepted socket was released by its id_new")


@probe("ACCEPT-3", "ACCEPT-5")
def every_accept_has_a_ring_of_its_own(observed: Observed) -> None:
    """ACCEPT's ref, at 24, is the grant of an indexes page with grants that can all be mapped."""
    observed.of(raw.ACCEPT)
    observed.check("ACCEPT-5")
    for seen in observed.some_rings(raw.ACCEPT):
        require(set(seen.first_words.values()) == {0}, f"{seen.first_words}", under="E-IDXINIT")


@probe("ACCEPT-4")
def every_accept_has_an_event_channel_of_its_own(observed: Observed) -> None:
    """ACCEPT's evtchn, at 28, can be bound, which one in use cannot."""
    observed.check("ACCEPT-4")
    observed.some_rings(raw.ACCEPT)


@probe("POLL-1", "POLL-4")
def only_listening_sockets_are_polled(observed: Observed) -> None:
    """POLL's id, at 8, is that of a socket that listens."""
    observed.of(raw.POLL)
    observed.check("POLL-1")


@probe("POLL-2")
def connected_sockets_are_not_polled(observed: Observed) -> None:
    """No POLL is sent for a connected socket: its indexes page says it all."""
    observed.some_rings()
    polled = [name(each) for each in observed.requests if each.cmd == raw.POLL and each.socket_was == "active"]
    require(not polled, f"{', '.join(polled)}: the socket is connected")


@probe("FAMILY-4")
def an_address_begins_with_its_family(observed: Observed) -> None:
    """The first two bytes of `addr` are the family, 2."""
    for each in observed.of(*WITH_ADDRESS):
        expect(f"the family in {name(each)}", int.from_bytes(each.addr[:2], "little"), 2)


@probe("FAMILY-5")
def the_rest_of_an_address_is_0(observed: Observed) -> None:
    """20 bytes of zero follow port and address."""
    for each in observed.of(*WITH_ADDRESS):
        require(not any(each.addr[8:]), f"{name(each)}: addr goes on with {each.addr[8:].hex()}", under="E-SOCKADDR")


@probe("FAMILY-6")
def port_and_address_are_in_network_order(observed: Observed) -> None:
    """The driver's addresses come as it gave them: 127.0.0.1, and its port numbers, in network order."""
    asked = observed.of(*WITH_ADDRESS)
    if not observed.told:
        raise NotObservable("no driver told which addresses it used")
    hosts = {each.addr[4:8] for each in asked}
    expect("the addresses", hosts == {b"\x7f\0\0\1"}, True)


def _check_length(observed: Observed, cmd: int) -> None:
    for each in observed.of(cmd):
        require(each.len <= 28, f"len of {name(each)} is {each.len}", under="E-SOCKADDR")
        expect(f"len of {name(each)}", each.len, {16, 28}, under="E-LEN")
