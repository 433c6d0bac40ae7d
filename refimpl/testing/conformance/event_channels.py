"""Checks of event channels: delivery, masks, merging, closing, and ports that are refused.

Spec: Workflow (notification), and every event channel of the document.
"""

from __future__ import annotations

from refimpl.testing.conformance.checks import check, demand, demand_equal
from refimpl.testing.conformance.factory import Peers


@check("event_channels")
def notification_reaches_the_other_end(peers: Peers) -> None:
    """A notification on either end of a bound channel makes the other end's port fire."""
    alpha, beta = peers
    for one, other in ((alpha, beta), (beta, alpha)):
        one_port, other_port = peers.channel(one, other)
        peers.settle()
        for _ in range(50):
            one.notify(one_port)
            peers.receive(other, other_port)
            other.notify(other_port)
            peers.receive(one, one_port)


@check("event_channels")
def notification_before_the_wait_is_kept(peers: Peers) -> None:
    """An event sent while nobody waits is there for the next wait, also one with no time to wait."""
    alpha, beta = peers
    one, other = peers.channel(alpha, beta)
    for _ in range(50):
        peers.settle()
        alpha.notify(one)
        peers.receive(beta, other)


@check("event_channels")
def idle_channels_are_quiet(peers: Peers) -> None:
    """With nothing sent the events that a bind may cause end, and a poll finds nothing."""
    alpha, beta = peers
    for _ in range(4):
        peers.channel(alpha, beta)
        peers.channel(beta, alpha)
    peers.settle()
    demand_equal(list(alpha.wait(0)), [], "events with nothing sent")


@check("event_channels")
def fired_port_is_masked_until_rearmed(peers: Peers) -> None:
    """A port that fired does not fire again before it is rearmed, however often it is notified."""
    alpha, beta = peers
    for sender, receiver in ((alpha, beta), (beta, alpha)):
        one, other = peers.channel(sender, receiver)
        sender.notify(one)
        peers.receive(receiver, other, rearm=False)
        for turn in range(20):
            sender.notify(one)
            demand(other not in receiver.wait(0.01 if turn % 10 == 9 else 0), "a masked port fired")
        receiver.rearm(other)


@check("event_channels")
def event_during_the_mask_comes_after_the_rearm(peers: Peers) -> None:
    """What is sent to a masked port is merged and fires after the rearm: also what came just before it."""
    alpha, beta = peers
    for sender, receiver in ((alpha, beta), (beta, alpha)):
        one, other = peers.channel(sender, receiver)
        for sends in (1, 2, 17) * 20:
            sender.notify(one)
            peers.receive(receiver, other, rearm=False)
            for _ in range(sends):
                sender.notify(one)
            receiver.rearm(other)
            peers.receive(receiver, other, rearm=False)
            receiver.rearm(other)
        peers.settle()


@check("event_channels")
def masked_port_does_not_hold_up_others(peers: Peers) -> None:
    """Ports fire while others are masked, and each mask is its own."""
    alpha, beta = peers
    channels = [peers.channel(alpha, beta) for _ in range(4)]
    peers.settle()
    for one, _ in channels:
        alpha.notify(one)
    held = [port for _, port in channels[:2]]
    peers.receive(beta, *held, rearm=False)
    peers.settle(beta)
    for one, _ in channels:
        alpha.notify(one)
    fired = peers.receive(beta, *(port for _, port in channels[2:]))
    demand(not set(fired) & set(held), "a masked port fired")
    for port in held:
        beta.rearm(port)
    peers.receive(beta, *held)


@check("event_channels")
def events_are_merged_and_each_port_returned_once(peers: Peers) -> None:
    """A thousand notifications before a wait are one event, or few; one wait returns a port once."""
    alpha, beta = peers
    one, other = peers.channel(alpha, beta)
    second, second_other = peers.channel(alpha, beta)
    peers.settle()
    for _ in range(1000):
        alpha.notify(one)
        alpha.notify(second)
    count = {other: 0, second_other: 0}
    while fired := list(beta.wait(0 if all(count.values()) else peers.patience)):
        demand_equal(len(fired), len(set(fired)), "different ports in one wait")
        for port in fired:
            count[port] += 1
            beta.rearm(port)
        demand(sum(count.values()) < 20, f"a thousand notifications were many events: {count}")
    demand(all(count.values()), f"lost wake-up: events by port {count}")


@check("event_channels")
def all_of_many_ports_fire(peers: Peers) -> None:
    """Of 64 channels whichever were notified fire, in any order, in both directions."""
    alpha, beta = peers
    channels = [peers.channel(*((alpha, beta) if n % 2 else (beta, alpha))) for n in range(64)]
    pairs = [(a, b) if n % 2 else (b, a) for n, (a, b) in enumerate(channels)]
    demand_equal(len({a for a, _ in pairs}), 64, "different ports of alpha")
    demand_equal(len({b for _, b in pairs}), 64, "different ports of beta")
    peers.settle()
    for step in (1, 3, 7, 64):
        for a, _ in pairs[::step]:
            alpha.notify(a)
        peers.receive(beta, *(b for _, b in pairs[::step]))
        for _, b in pairs[::step]:
            beta.notify(b)
        peers.receive(alpha, *(a for a, _ in pairs[::step]))


@check("event_channels", peers=3)
def one_wait_serves_several_peers(peers: Peers) -> None:
    """One wait returns the events of channels with different domains, each only to its own ends."""
    alpha, beta, gamma = peers
    with_beta, beta_port = peers.channel(alpha, beta)
    with_gamma, gamma_port = peers.channel(alpha, gamma)
    peers.settle()
    beta.notify(beta_port)
    gamma.notify(gamma_port)
    peers.receive(alpha, with_beta, with_gamma)
    alpha.notify(with_gamma)
    peers.receive(gamma, gamma_port)
    demand_equal(list(beta.wait(0)), [], "events of the domain not notified")
