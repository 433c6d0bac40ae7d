"""The clock that a selector waits for."""

from __future__ import annotations

import contextlib
import os

from refimpl.ready import is_readable
from refimpl.shm.store.alarm import Alarm


def is_ringing(alarm, timeout=0.0):
    return is_readable(alarm, timeout)


def test_it_rings_every_period_until_it_is_switched_off():
    with contextlib.closing(Alarm(0.001)) as alarm:
        assert not is_ringing(alarm)
        alarm.switch(True)
        for _ in range(3):
            assert is_ringing(alarm, 30)
            alarm.acknowledge()
        alarm.switch(False)
        alarm.acknowledge()
        assert not is_ringing(alarm)


def test_an_alarm_that_does_not_ring_may_be_acknowledged():
    with contextlib.closing(Alarm(3600)) as alarm:
        alarm.switch(True)
        alarm.acknowledge()
        assert not is_ringing(alarm)


def test_no_child_inherits_it():
    with contextlib.closing(Alarm(1)) as alarm:
        assert not os.get_inheritable(alarm.fileno())
