"""When looking out before a sleep is tried, and when it is left alone."""

from __future__ import annotations

from refimpl.look_out import FEWEST_SLEEPS, MOST_SLEEPS, MOST_VAIN_TRIES, LookOut


def sleeps_after_vain_tries(look_out: LookOut) -> int:
    """Try in vain until it is left alone; return for how many waits."""
    for _ in range(MOST_VAIN_TRIES):
        assert look_out.pays()
        look_out.tell(False)
    count = 0
    while not look_out.pays():
        count += 1
    return count


def test_it_is_tried_while_it_pays_and_one_vain_try_changes_nothing() -> None:
    look_out = LookOut()
    for _ in range(10):
        assert look_out.pays()
        look_out.tell(True)
        assert look_out.pays()
        look_out.tell(False)


def test_after_vain_tries_it_is_left_alone_for_longer_each_time_and_what_pays_begins_anew() -> None:
    look_out = LookOut()
    assert [sleeps_after_vain_tries(look_out) for _ in range(6)] == [64, 128, 256, 512, MOST_SLEEPS, MOST_SLEEPS]
    assert look_out.pays()
    look_out.tell(True)
    assert sleeps_after_vain_tries(look_out) == FEWEST_SLEEPS
