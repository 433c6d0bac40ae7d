"""The rules of notification and the schedules of asking again."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.data_ring.notification import (
    NotifyConsumer,
    consumer_must_notify,
    doubling,
    held_error_delays,
    producer_must_notify,
    renotify_delays,
)
from refimpl.errors import Misuse

INDEX = st.one_of(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))


@pytest.mark.spec("NORING-5")
@given(INDEX, st.integers(0, 4096))
def test_producer_notifies_only_of_what_comes_into_an_empty_ring(old_prod: int, behind: int) -> None:
    assert producer_must_notify((old_prod - behind) % 2**32, old_prod) == (behind == 0)


@pytest.mark.spec("NORING-4")
@pytest.mark.erratum("E-CONSNOTIFY")
@given(INDEX, st.integers(0, 4096))
def test_consumer_notifies_only_of_space_in_a_full_ring(old_cons: int, used: int) -> None:
    prod = (old_cons + used) % 2**32
    assert consumer_must_notify(prod, old_cons, 4096, NotifyConsumer.FULL_ONLY) == (used == 4096)


@pytest.mark.spec("WORKFLOW-12")
@pytest.mark.erratum("E-CONSNOTIFY")
@given(INDEX, INDEX)
def test_consumer_always_notifies_where_told_to(prod: int, old_cons: int) -> None:
    assert consumer_must_notify(prod, old_cons, 4096, NotifyConsumer.ALWAYS)


@pytest.mark.erratum("E-CONSNOTIFY")
def test_renotification_grows_to_a_second_and_never_ends() -> None:
    delays = list(islice(renotify_delays(), 12))
    assert delays == [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.erratum("E-DRAIN")
def test_a_held_back_error_waits_a_second_at_most() -> None:
    delays = list(held_error_delays())
    assert delays[:6] == [0.005, 0.01, 0.02, 0.04, 0.08, 0.1]
    assert max(delays) == 0.1
    assert sum(delays) == pytest.approx(1.0)
    assert len(delays) < 20


@given(
    st.floats(0.001, 1),
    st.floats(1, 10),
    st.one_of(st.none(), st.floats(0.1, 100)),
)
def test_delays_double_up_to_the_longest_within_the_total(first: float, longest: float, total: float | None) -> None:
    delays = list(islice(doubling(first, longest, total), 200))
    assert all(0 < delay <= longest for delay in delays)
    whole = delays if total is None else delays[:-1]
    assert all(later == min(2 * sooner, longest) for sooner, later in pairwise(whole))
    if total is not None and len(delays) < 200:
        assert sum(delays) == pytest.approx(total)


@pytest.mark.parametrize(("first", "longest"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_delays_that_cannot_grow_are_refused(first: float, longest: float) -> None:
    with pytest.raises(Misuse):
        next(doubling(first, longest))
