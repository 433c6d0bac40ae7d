"""Leader and followers: nobody's wake-up is lost, and nobody is woken for what is not theirs."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref

import pytest

from refimpl.errors import DomainClosed
from refimpl.frontend import waiting
from refimpl.frontend.waiting import AT_ONCE, Events, deadline_after, timed_out, turn
from refimpl.shm import ShmPlatform

PATIENCE = 30.0


class Bell:
    """An event channel between the two domains and a number that the other one changes before it notifies."""

    def __init__(self, machine):
        self.here, self.there = machine.guest, machine.zero
        self.port = self.here.allocate_unbound(self.there.domid)
        self._far_port = self.there.bind(self.here.domid, self.port)
        self.rings = self.looks = self.renotified = 0
        self.untaken = False

    def ring(self):
        self.rings += 1
        self.notify()

    def notify(self):
        self.there.notify(self._far_port)

    def reaches(self, count):
        def look():
            self.looks += 1
            return self.rings >= count

        return look

    def activity(self):
        return self.rings

    def is_untaken(self):
        return self.untaken

    def renotify(self):
        self.renotified += 1


@pytest.fixture
def events(machine, monkeypatch):
    """The guest's events; a lost wake-up is not made good by looking again every second, or before the sleep."""
    monkeypatch.setattr(waiting.LookOut, "find", lambda _self, _look: None)
    monkeypatch.setattr(waiting, "FIRST_WAIT_SECONDS", PATIENCE)
    monkeypatch.setattr(waiting, "LONGEST_WAIT_SECONDS", PATIENCE)
    return Events.of(machine.guest)


def test_a_platform_has_one_instance(machine, events):
    assert Events.of(machine.guest) is events
    assert Events.of(machine.zero) is not events


def test_a_platform_is_not_kept_by_those_who_waited(machine):
    """Each would keep three descriptors and its memory: a program that opens devices again and again ran out."""
    with ShmPlatform.join(machine.run, arena_pages=64) as platform:
        events = Events.of(platform)
        assert not events.wait_until((), lambda: False, AT_ONCE)
    kept = weakref.ref(platform)
    del platform, events
    gc.collect()
    assert kept() is None


def test_what_is_there_needs_no_wait(machine, events):
    assert events.wait_until((Bell(machine),), lambda: True)
    assert not events.wait_until((Bell(machine),), lambda: False, AT_ONCE)


def test_who_leads_looks_out_before_it_sleeps(machine, monkeypatch):
    def find(_, look):
        while not look():
            pass
        return True

    monkeypatch.setattr(waiting.LookOut, "find", find)
    monkeypatch.setattr(machine.guest, "wait", lambda _: pytest.fail("it sleeps"))
    looks = iter([False, False, False, True])
    assert Events(machine.guest).wait_until((Bell(machine),), lambda: next(looks))


def test_who_looks_out_in_vain_sleeps(machine, monkeypatch):
    monkeypatch.setattr(waiting.LookOut, "find", lambda _, look: look() or None)
    monkeypatch.setattr(machine.guest, "wait", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Events(machine.guest).wait_until((Bell(machine),), lambda: False)


def test_a_leader_and_its_followers_each_get_their_own(machine, events, do):
    bells = [Bell(machine) for _ in range(6)]
    waits = [do(events.wait_until, (bell,), bell.reaches(1)) for bell in bells]
    order = list(range(6))
    random.shuffle(order)
    for which in order:
        bells[which].ring()
        assert waits[which].result() is True
    assert all(each.is_done for each in waits)


def test_followers_sleep_through_what_is_not_theirs(machine, events, do):
    busy, quiet = Bell(machine), Bell(machine)
    waits = [do(events.wait_until, (quiet,), quiet.reaches(1))]
    waits.append(do(events.wait_until, (busy,), busy.reaches(200)))
    for _ in range(200):
        busy.ring()
    assert waits[1].result()
    looks = quiet.looks
    assert looks <= 3
    quiet.ring()
    assert waits[0].result()


def test_no_wake_up_is_lost_among_many_threads(machine, events, do):
    bells, rounds = [Bell(machine) for _ in range(8)], 300
    turns = [threading.Semaphore(0) for _ in bells]

    def wait_often(which):
        bell = bells[which]
        for count in range(1, rounds + 1):
            turns[which].release()
            assert events.wait_until((bell,), bell.reaches(count), time.monotonic() + PATIENCE), (which, count)

    def ring_often(chosen):
        for _ in range(rounds):
            for which in random.sample(chosen, len(chosen)):
                assert turns[which].acquire(timeout=PATIENCE)
                bells[which].ring()

    work = [do(wait_often, which) for which in range(8)]
    work += [do(ring_often, list(range(first, 8, 2))) for first in (0, 1)]
    for each in work:
        each.result()
    assert not events._followers
    assert events._leader is None


def test_one_thread_can_wait_for_many(machine, events, do):
    bells = [Bell(machine) for _ in range(5)]
    for which in random.sample(range(5), 5):
        wait = do(events.wait_until, bells, lambda: any(bell.rings for bell in bells))
        bells[which].ring()
        assert wait.result()
        bells[which].rings = 0


def test_two_threads_can_wait_for_one(machine, events, do):
    bell = Bell(machine)
    waits = [do(events.wait_until, (bell,), bell.reaches(1)) for _ in range(3)]
    bell.ring()
    assert all(each.result() for each in waits)


def test_an_event_before_the_wait_is_not_missed(machine, events, do):
    bell, other = Bell(machine), Bell(machine)
    seen = events.received
    leading = do(events.wait_until, (other,), other.reaches(1))
    bell.ring()
    while events.received == seen:
        pass  # The leader takes it; it is for nobody.
    assert events.wait_until((bell,), bell.reaches(1), time.monotonic() + PATIENCE, seen=seen)
    other.ring()
    leading.result()


def test_a_look_already_made_is_not_made_again(machine, events):
    bell = Bell(machine)
    machine.guest.wait(0)
    assert not events.wait_until((bell,), bell.reaches(1), AT_ONCE, seen=events.received)
    assert bell.looks == 0


def test_wake_all_makes_everybody_look(machine, events, do):
    bells, end = [Bell(machine) for _ in range(4)], threading.Event()
    waits = [do(events.wait_until, (bell,), end.is_set) for bell in bells]
    end.set()
    events.wake_all()
    assert all(each.result() for each in waits)


def test_deadlines_of_leader_and_followers(machine, events, do):
    bells = [Bell(machine) for _ in range(3)]
    waits = [do(events.wait_until, (bell,), bell.reaches(1), time.monotonic() + 0.02) for bell in bells]
    assert [each.result() for each in waits] == [False] * 3


def test_what_a_look_raises_comes_out_and_the_others_wait_on(machine, events, do):
    bells = [Bell(machine) for _ in range(2)]

    def fail():
        if bells[0].rings:
            raise ZeroDivisionError
        return False

    failing = do(events.wait_until, (bells[0],), fail)
    waiting_on = do(events.wait_until, (bells[1],), bells[1].reaches(1))
    bells[0].ring()
    with pytest.raises(ZeroDivisionError):
        failing.result()
    bells[1].ring()
    assert waiting_on.result()


def test_a_closed_platform_ends_every_wait(machine, events, do):
    bells = [Bell(machine) for _ in range(3)]
    waits = [do(events.wait_until, (bell,), bell.reaches(1)) for bell in bells]
    machine.guest.close()
    for each in waits:
        with pytest.raises(DomainClosed):
            each.result()


@pytest.mark.security("SEC-F-11")
def test_events_nobody_waits_for_cost_nothing(machine, events, do):
    noisy, bell = Bell(machine), Bell(machine)
    wait = do(events.wait_until, (bell,), bell.reaches(1))
    for _ in range(1000):
        noisy.ring()
    bell.ring()
    assert wait.result()
    assert events.received <= 4
    assert events.wait_until((noisy,), noisy.reaches(1000))


@pytest.mark.security("SEC-F-11")
def test_a_storm_with_nothing_behind_it_is_heard_less_and_less(machine, events, do):
    bell = Bell(machine)
    wait = do(events.wait_until, (bell,), bell.reaches(1))
    for _ in range(20_000):
        bell.notify()
    assert bell.looks < 100
    bell.ring()
    assert wait.result()


@pytest.mark.erratum("E-CONSNOTIFY")
def test_the_peer_is_notified_again_until_it_has_taken_all(machine, monkeypatch, do):
    monkeypatch.setattr(waiting, "LONGEST_WAIT_SECONDS", PATIENCE)
    bell = Bell(machine)
    bell.untaken = True
    wait = do(Events.of(machine.guest).wait_until, (bell,), bell.reaches(1))
    while bell.renotified < 3:
        assert not wait.is_done
    bell.untaken = False
    bell.ring()
    assert wait.result()


def test_deadlines():
    assert deadline_after(None) is None
    assert deadline_after(0) == AT_ONCE
    assert deadline_after(5) > time.monotonic() + 4
    assert isinstance(timed_out(AT_ONCE), BlockingIOError)
    assert isinstance(timed_out(1.0), TimeoutError)
    lock = threading.Lock()
    with turn(lock, None):
        with pytest.raises(BlockingIOError), turn(lock, AT_ONCE):
            pass
        with pytest.raises(TimeoutError), turn(lock, time.monotonic() + 0.01):
            pass
    with turn(lock, AT_ONCE):
        assert lock.locked()
