"""Which watches hear of which change, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.shm.store.session import Session
from refimpl.shm.store.watches import Watches

paths = st.lists(st.sampled_from([b"a", b"b", b"ab"]), max_size=3).map(lambda names: b"/" + b"/".join(names))


@pytest.fixture
def session(database):
    return Session(database, database.domains.get(1))


def matched(watches, path, *, exact=False):
    return [watch.token for watch in watches.matching(path, exact=exact)]


def test_above_and_at_the_change_in_the_order_they_were_set(session):
    watches = Watches()
    for path in (b"/a/b", b"/", b"/a", b"/a/b/c", b"/ab"):
        watches.add(session, path, path, relative=False)
    assert matched(watches, b"/a/b") == [b"/a/b", b"/", b"/a"]
    assert matched(watches, b"/a/b", exact=True) == [b"/a/b"]
    assert matched(watches, b"/") == [b"/"]


def test_special_watches_match_only_their_own_event(session):
    watches = Watches()
    for path in (b"/", b"@releaseDomain", b"@releaseDomain/1"):
        watches.add(session, path, path, relative=False)
    assert matched(watches, b"@releaseDomain") == [b"@releaseDomain"]


@given(watched=paths, changed=paths)
def test_a_watch_hears_of_the_paths_that_its_own_begins(new_database, watched, changed):
    database = new_database()
    watches = Watches()
    watches.add(Session(database, database.domains.get(0)), watched, b"t", relative=False)
    below = watched == b"/" or changed == watched or changed.startswith(watched + b"/")
    assert bool(matched(watches, changed)) == below


def test_what_is_shown(session):
    watches = Watches()
    absolute = watches.add(session, b"/local/domain/1/x", b"t", relative=False)
    relative = watches.add(session, b"/local/domain/1/x", b"u", relative=True)
    assert absolute.shown(b"/local/domain/1/x/y") == b"/local/domain/1/x/y"
    assert relative.shown(b"/local/domain/1/x/y") == b"x/y"


def test_nothing_is_left_of_watches_that_ended(session):
    watches = Watches()
    mine = [watches.add(session, b"/a", token, relative=False) for token in (b"t", b"u")]
    assert watches.find(session, b"/a", b"t") is mine[0]
    for watch in mine:
        watches.remove(watch)
    assert watches.find(session, b"/a", b"t") is None
    assert watches._by_path == {}
