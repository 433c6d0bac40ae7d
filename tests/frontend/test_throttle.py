"""Events with nothing behind them are held back, others never."""

from __future__ import annotations

import time

import pytest

from refimpl.frontend.throttle import FREE_USELESS_EVENTS, LONGEST_HOLD_SECONDS, Throttle


def held(throttle, activity):
    """Let one event come; return for how long the port is held then, roughly."""
    throttle.rearm_at = 0.0
    throttle.take_event(activity)
    return max(0.0, throttle.rearm_at - time.monotonic()) if throttle.rearm_at else 0.0


@pytest.mark.security("SEC-F-11")
def test_holds_grow_up_to_a_limit_and_end_with_any_activity():
    throttle = Throttle()
    throttle.take_event("first")
    assert [held(throttle, "first") for _ in range(FREE_USELESS_EVENTS)] == [0.0] * FREE_USELESS_EVENTS
    holds = [held(throttle, "first") for _ in range(12)]
    assert 0 < holds[0] < holds[4] < holds[8] <= LONGEST_HOLD_SECONDS
    assert holds[11] <= LONGEST_HOLD_SECONDS
    assert held(throttle, "something new") == 0.0
    assert held(throttle, "something new") == 0.0
