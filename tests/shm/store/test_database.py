"""Domains that come and go: what of them is left, and who hears of it."""

from __future__ import annotations

import pytest

from refimpl.store.wire import OK, Operation, strings


@pytest.fixture
def toolstack(database, speak):
    return speak(database)


def write(client, path, value=b"v"):
    return client.request(Operation.WRITE, strings(path) + value)


def permit(client, path, *entries):
    assert client.request(Operation.SET_PERMS, strings(path, *entries)).payload == OK


def permissions(client, path):
    return client.request(Operation.GET_PERMS, strings(path)).payload


def give_home(toolstack, domid):
    home = b"/local/domain/%d" % domid
    write(toolstack, home)
    permit(toolstack, home, b"n%d" % domid)
    return home


def test_introduction_is_told_once(database, toolstack):
    toolstack.request(Operation.WATCH, b"@introduceDomain\0t\0")
    toolstack.take_events()
    database.introduce(5)
    database.introduce(5)
    assert toolstack.take_events() == [(b"@introduceDomain", b"t")]
    assert toolstack.request(Operation.IS_DOMAIN_INTRODUCED, b"5\0").payload == b"T\0"


def test_death_of_a_domain_that_was_never_introduced_is_not_told(database, toolstack):
    toolstack.request(Operation.WATCH, b"@releaseDomain\0t\0")
    toolstack.take_events()
    database.release(5)
    assert toolstack.take_events() == []
    assert database.released == [5]


def test_deaths_are_all_told(database, toolstack):
    toolstack.request(Operation.WATCH, b"@releaseDomain\0t\0")
    toolstack.take_events()
    for domid in (5, 6):
        database.introduce(domid)
        database.release(domid)
    assert toolstack.take_events() == [(b"@releaseDomain", b"t")] * 2


# The lesson of XSA-322 and XSA-417.
def test_nothing_of_a_dead_domain_waits_for_the_next_of_its_number(database, toolstack, speak):
    give_home(toolstack, 1)
    write(toolstack, b"/t/for1")
    permit(toolstack, b"/t/for1", b"n0", b"r1", b"w2", b"b1")
    write(toolstack, b"/t/of1/by0")
    permit(toolstack, b"/t/of1", b"n1")
    permit(toolstack, b"@introduceDomain", b"n1", b"r2")
    permit(toolstack, b"@releaseDomain", b"n0", b"r1", b"r2")
    guest = speak(database, 1)
    write(guest, b"a/b")
    database.introduce(1)
    database.introduce(2)
    toolstack.request(Operation.SET_TARGET, b"2\x001\0")

    database.release(1)

    assert permissions(toolstack, b"/t/for1") == b"n0\0w2\0"
    assert toolstack.request(Operation.READ, b"/t/of1/by0\0").error == "ENOENT"
    assert toolstack.request(Operation.DIRECTORY, b"/local/domain\0").payload == b""
    assert database.special == {b"@introduceDomain": ((0, 0), (2, 1)), b"@releaseDomain": ((0, 0), (2, 1))}
    assert database.domains.get(2).identities == (2,)
    usage = database.domains.usage(1)
    assert (usage.nodes, usage.memory_bytes, usage.watches, usage.transactions) == (0, 0, 0, 0)
    assert guest.stream.session.is_over


def test_its_nodes_are_removed_before_its_death_is_told(database, toolstack, speak):
    home = give_home(toolstack, 1)
    database.introduce(1)
    guest = speak(database, 1)
    write(guest, b"a")
    for path in (b"@releaseDomain", home, home + b"/a"):
        toolstack.request(Operation.WATCH, strings(path, b"t"))
    toolstack.take_events()
    database.release(1)
    assert toolstack.take_events() == [(home + b"/a", b"t"), (home, b"t"), (b"@releaseDomain", b"t")]


def test_what_others_put_below_its_nodes_goes_with_them(database, toolstack):
    home = give_home(toolstack, 1)
    write(toolstack, home + b"/of2")
    permit(toolstack, home + b"/of2", b"n2")
    write(toolstack, b"/of2")
    permit(toolstack, b"/of2", b"n2", b"r1")
    database.release(1)
    assert toolstack.request(Operation.READ, home + b"/of2\0").error == "ENOENT"
    assert permissions(toolstack, b"/of2") == b"n2\0"
    assert database.domains.usage(2).nodes == 1


def test_the_root_stays_whoever_owned_it(database, toolstack):
    permit(toolstack, b"/", b"r1")
    database.release(1)
    assert permissions(toolstack, b"/") == b"r0\0"
    assert toolstack.request(Operation.DIRECTORY, b"/\0").payload == b"tool\0"


def test_a_death_is_a_conflict_for_who_looked_at_its_nodes(database, toolstack):
    write(toolstack, b"/t")
    permit(toolstack, b"/t", b"n0", b"r1")
    tx_id = toolstack.begin()
    toolstack.request(Operation.GET_PERMS, b"/t\0", tx_id)
    database.release(1)
    assert toolstack.end(tx_id).error == "EAGAIN"


def test_a_thousand_names_deep(database, toolstack, speak):
    home = give_home(toolstack, 1)
    guest = speak(database, 1)
    assert write(guest, b"/".join([b"a"] * 990)).payload == OK
    database.release(1)
    assert toolstack.request(Operation.READ, strings(home)).error == "ENOENT"
    assert len(database.tree) == 5


def test_watchers_learn_of_a_death_only_if_they_may(database, toolstack, speak):
    other = speak(database, 2)
    other.request(Operation.WATCH, b"@releaseDomain\0t\0")
    other.take_events()
    for domid in (1, 3):
        database.introduce(domid)
    database.release(1)
    assert other.take_events() == []
    permit(toolstack, b"@releaseDomain", b"n0", b"r2")
    database.release(3)
    assert other.take_events() == [(b"@releaseDomain", b"t")]
