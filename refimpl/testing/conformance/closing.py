"""Checks of what is left of a domain that closed: nothing that works, and nothing that hangs."""

from __future__ import annotations

from refimpl.errors import DomainClosed, StoreLost
from refimpl.testing.conformance.checks import Work, check, demand_equal
from refimpl.testing.conformance.factory import Factory
from refimpl.testing.conformance.fork import MAY_DO_NOTHING, calls_of

#: What a closed domain may take without a word: there is nothing to wake, rearm, close or give back.
SILENT = MAY_DO_NOTHING | {"rearm", "close_port", "wake"}


@check("death", peers=0)
def closed_domain_refuses_every_call(factory: Factory) -> None:
    """After close every call raises DomainClosed, in xenstore also StoreLost, or does nothing where that is enough."""
    with factory.peers(2) as peers:
        alpha, beta = peers
        port, _ = peers.channel(alpha, beta)
        foreign = beta.grant(alpha.domid, 2)
        grant, mapped = alpha.grant(beta.domid, 2), alpha.map(beta.domid, foreign.refs)
        watch = alpha.store.watch(f"/local/domain/{alpha.domid}/data", lambda path: None)
        calls = calls_of(alpha, beta.domid, port, grant, mapped, watch)
        alpha.close()
        wrong = {}
        for name, call in calls.items():
            try:
                result = Work(call).result(peers.patience, f"{name} of a closed domain")
            except DomainClosed:
                continue
            except StoreLost:
                if not name.startswith(("store.", "Watch.")):
                    wrong[name] = "raised StoreLost"
            except Exception as error:
                wrong[name] = f"raised {type(error).__name__}: {error}"
            else:
                if name not in SILENT:
                    wrong[name] = f"returned {result!r}"
        demand_equal(wrong, {}, "calls of a closed domain")
        foreign.end()


@check("death", peers=0)
def closing_ends_a_wait_in_progress(factory: Factory) -> None:
    """A wait without deadline ends when another thread closes the domain, with nothing or with DomainClosed."""
    for _ in range(5):
        with factory.peers(1) as peers:
            (alpha,) = peers
            waiting = Work(alpha.wait)
            alpha.close()
            try:
                demand_equal(list(waiting.result(peers.patience, "a wait in a closed domain")), [], "events")
            except DomainClosed:
                pass
