"""A domain's time in this process, and what a forked child must let go of."""

from __future__ import annotations

import pytest

from refimpl.errors import DomainClosed, ForkedDomain
from refimpl.shm import forks
from refimpl.shm.lifetime import Lifetime


def test_domain_may_be_used_until_it_is_closed() -> None:
    lifetime = Lifetime()
    lifetime.check()
    assert lifetime.lasts()
    lifetime.end()
    assert not lifetime.lasts()
    with pytest.raises(DomainClosed, match="closed"):
        lifetime.check()


@pytest.mark.parametrize("closed_before", [False, True])
def test_forked_child_may_do_nothing(closed_before) -> None:
    lifetime = Lifetime()
    if closed_before:
        lifetime.end()
    lifetime.abandon()
    for call in (lifetime.check, lifetime.lasts, lifetime.refuse):
        with pytest.raises(ForkedDomain, match="forked child"):
            call()


def test_owners_are_abandoned_in_the_child_while_they_exist() -> None:
    abandoned = []

    class Owner:
        def __init__(self, name: str) -> None:
            self.name = name
            forks.abandon_in_child(self)

        def abandon(self) -> None:
            abandoned.append(self.name)

    kept, dropped = Owner("kept"), Owner("dropped")
    del dropped
    others = set(forks._owners) - {kept}
    try:
        for other in others:
            forks._owners.discard(other)
        forks._after_fork_in_child()  # as if this were one
    finally:
        for other in others:
            forks._owners.add(other)
    assert abandoned == ["kept"]
