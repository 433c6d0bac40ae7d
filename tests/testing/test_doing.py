"""Calls in threads of their own."""

from __future__ import annotations

import threading

import pytest

from refimpl.testing.doing import Doing


def test_what_is_returned_or_raised_arrives() -> None:
    assert Doing(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        Doing(divmod, 7, 0).result()
    with pytest.raises(SystemExit):
        Doing(exit, 3).result()


def test_it_goes_on_meanwhile_and_one_that_hangs_is_said_to() -> None:
    gate = threading.Event()
    waiting = Doing(gate.wait, 30)
    assert not waiting.is_done
    with pytest.raises(AssertionError, match="hangs"):
        waiting.result(0)
    gate.set()
    assert waiting.result() is True
    assert waiting.is_done
