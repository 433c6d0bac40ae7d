"""Who lives: domids and incarnations."""

from __future__ import annotations

import os
import secrets

import pytest

from refimpl.errors import LimitReached, PermissionRefused
from refimpl.shm import lives as lives_module
from refimpl.shm.lives import LIVES_SIZE, Lives, map_lives


@pytest.fixture
def lives():
    made = Lives(secrets.token_hex(4))
    yield made
    made.close()


def test_guests_count_from_one_and_on(lives) -> None:
    assert [lives.give(None)[0] for _ in range(3)] == [1, 2, 3]
    lives.end(2)
    assert lives.give(None)[0] == 4
    assert lives.give(2)[0] == 2
    assert lives.give(0)[0] == 0


def test_domid_in_use_is_refused_and_skipped(lives) -> None:
    assert lives.give(2)[0] == 2
    with pytest.raises(PermissionRefused, match="domain 2 lives already"):
        lives.give(2)
    assert [lives.give(None)[0] for _ in range(2)] == [1, 3]


def test_incarnations_are_never_used_twice(lives) -> None:
    seen = set()
    for _ in range(100):
        domid, incarnation = lives.give(5)
        lives.begin(domid, incarnation)
        seen.add(incarnation)
        lives.end(domid)
    assert len(seen) == 100
    assert 0 not in seen


def test_domids_come_again_when_all_were_used(lives, monkeypatch) -> None:
    monkeypatch.setattr(lives_module, "DOMID_COUNT", 5)
    assert [lives.give(None)[0] for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(LimitReached, match="domids"):
        lives.give(None)
    lives.end(3)
    lives.end(1)
    assert lives.give(None)[0] == 1
    assert lives.give(None)[0] == 3


def test_domains_see_who_lives(lives) -> None:
    words = map_lives(os.dup(lives.descriptor))
    assert words.readonly
    assert words.nbytes == LIVES_SIZE
    domid, incarnation = lives.give(9)
    assert words[9] == 0
    lives.begin(domid, incarnation)
    assert words[9] == incarnation
    lives.end(9)
    assert words[9] == 0


def test_only_the_page_itself_is_taken(lives) -> None:
    with pytest.raises(PermissionRefused, match="not its page"):
        map_lives(os.memfd_create("no page"))
