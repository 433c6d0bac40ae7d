"""Checks of ports: bound once and by the right domain, closed, refused, and as many as there are.

Spec: every event channel of the document.
"""

from __future__ import annotations

from refimpl.errors import LimitReached, PortRefused
from refimpl.testing.conformance.checks import Work, check, demand, demand_equal, refused
from refimpl.testing.conformance.factory import Factory, Peers


@check("event_channels")
def closed_port_never_fires(peers: Peers) -> None:
    """Closing drops a late event: a port closed with one pending, or while masked, does not fire; others still do."""
    alpha, beta = peers
    for sender, receiver in ((alpha, beta), (beta, alpha)):
        one, pending = peers.channel(sender, receiver)
        two, masked = peers.channel(sender, receiver)
        three, kept = peers.channel(sender, receiver)
        peers.settle()
        sender.notify(two)
        peers.receive(receiver, masked, rearm=False)
        for port in (one, two, three):
            sender.notify(port)
        receiver.close_port(pending)
        receiver.close_port(masked)
        receiver.rearm(masked)
        fired = peers.receive(receiver, kept)
        demand_equal(set(fired) - {kept}, set(), "closed ports that fired")
        demand_equal([p for p in receiver.wait(0) if p != kept], [], "closed ports that fired later")


@check("event_channels")
def closing_and_rearming_what_is_not_there_is_ignored(peers: Peers) -> None:
    """Closing a port that is not ours, closing one twice and rearming a closed one do nothing."""
    alpha, beta = peers
    one, other = peers.channel(alpha, beta)
    gone, _ = peers.channel(alpha, beta)
    alpha.close_port(gone)
    for _ in range(2):
        alpha.close_port(gone)
        alpha.rearm(gone)
        alpha.close_port(max(one, gone) + 10_000)
    peers.settle()
    alpha.notify(one)
    peers.receive(beta, other)


@check("event_channels")
def notifying_a_closed_end_goes_nowhere(peers: Peers) -> None:
    """A notification to an end that was closed, or that nobody bound yet, is no error and fires nothing."""
    alpha, beta = peers
    one, other = peers.channel(alpha, beta)
    unbound = alpha.allocate_unbound(beta.domid)
    peers.settle()
    beta.close_port(other)
    for _ in range(3):
        alpha.notify(one)
        alpha.notify(unbound)
    peers.settle()
    demand(other not in beta.wait(0), "the closed port fired")
    late = beta.bind(alpha.domid, unbound)
    alpha.notify(unbound)
    peers.receive(beta, late)


@check("event_channels")
def notifying_what_is_not_ours_is_refused(peers: Peers) -> None:
    """Notifying a port that was closed or never ours is PortRefused, with the port in it."""
    alpha, beta = peers
    closed, _ = peers.channel(alpha, beta)
    alpha.close_port(closed)
    for port in (closed, closed + 10_000):
        try:
            alpha.notify(port)
        except PortRefused as error:
            demand_equal(error.port, port, "port of the refusal")
        else:
            raise AssertionError(f"port {port}, not ours, could be notified")


@check("event_channels")
def binding_a_port_in_use_or_absent_is_refused(peers: Peers) -> None:
    """A port can be bound once: bound, closed and absent ones are PortRefused, and that harms nobody's channel."""
    alpha, beta = peers
    one, other = peers.channel(alpha, beta)
    closed = alpha.allocate_unbound(beta.domid)
    alpha.close_port(closed)
    with refused(PortRefused, "a second bind of a bound port"):
        beta.bind(alpha.domid, one)
    for absent in (closed, max(one, closed) + 10_000, 2**31 - 1, 2**32 - 1):
        with refused(PortRefused, f"a bind of port {absent}, absent"):
            beta.bind(alpha.domid, absent)
    with refused(PortRefused, "a bind of a domain that is not there"):
        beta.bind(peers.factory.stranger, one)
    peers.settle()
    alpha.notify(one)
    peers.receive(beta, other)


@check("event_channels")
def binding_a_port_meant_for_another_is_refused(peers: Peers) -> None:
    """A port allocated for one domain is PortRefused to every other, and stays free for the one."""
    alpha, beta = peers
    foreign = alpha.allocate_unbound(peers.factory.stranger)
    with refused(PortRefused, "a bind of a port meant for another domain"):
        beta.bind(alpha.domid, foreign)


@check("event_channels", peers=3, needs=["distinct_domids"])
def third_domain_cannot_bind(peers: Peers) -> None:
    """A port allocated for one domain is refused to a third one, and works for its own afterwards."""
    alpha, beta, gamma = peers
    port = alpha.allocate_unbound(beta.domid)
    for intruder in (gamma, alpha):
        with refused(PortRefused, f"a bind by domain {intruder.domid}"):
            intruder.bind(alpha.domid, port)
    other = beta.bind(alpha.domid, port)
    peers.settle()
    alpha.notify(port)
    peers.receive(beta, other)


@check("event_channels", peers=0, needs=["can_exhaust"])
def ports_beyond_the_limit_leave_nothing(factory: Factory) -> None:
    """Allocating ports beyond the limit is LimitReached, and closing them makes room for as many again."""
    with factory.peers(2) as peers:
        alpha, beta = peers
        one, other = peers.channel(alpha, beta)
        counts = []
        for _ in range(2):
            ports: list[int] = []
            try:
                while len(ports) < 200_000:
                    ports.append(alpha.allocate_unbound(beta.domid))
            except LimitReached:
                pass
            counts.append(len(ports))
            demand(len(ports) > 1, f"{len(ports)} ports could be allocated")
            unbound = beta.allocate_unbound(alpha.domid)
            with refused((LimitReached,), "a bind beyond the limit"):
                alpha.bind(beta.domid, unbound)
            alpha.close_port(ports.pop())
            bound = alpha.bind(beta.domid, unbound)
            alpha.notify(bound)
            peers.receive(beta, unbound)
            for port in (*ports, bound):
                alpha.close_port(port)
            beta.close_port(unbound)
        demand_equal(counts[1], counts[0], "ports allocated the second time")
        alpha.notify(one)
        peers.receive(beta, other)


@check("event_channels")
def closed_ports_can_be_used_again(peers: Peers) -> None:
    """Two thousand channels opened, used and closed one after another work like the first."""
    alpha, beta = peers
    for turn in range(2000):
        one, other = peers.channel(alpha, beta)
        beta.notify(other)
        peers.receive(alpha, one, rearm=turn % 2 == 0)
        alpha.close_port(one)
        beta.close_port(other)
    peers.settle()


@check("event_channels", peers=0)
def closing_closes_every_channel(factory: Factory) -> None:
    """A platform that closes closes its channels: its peer notifies into nothing, and can bind none of them."""
    with factory.peers(2) as peers:
        alpha, beta = peers
        _, other = peers.channel(alpha, beta)
        unbound = alpha.allocate_unbound(beta.domid)
        alpha.close()
        Work(beta.notify, other).result(peers.patience, "a notification to a closed domain")
        with refused(PortRefused, "a bind of a closed domain's port"):
            beta.bind(alpha.domid, unbound)
        beta.close_port(other)
