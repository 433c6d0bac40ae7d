"""Operations one by one: replies at their edges, and payloads that are wrong. See oracle.txt for all the rest."""

from __future__ import annotations

import pytest

from refimpl.shm.store.requests import HANDLERS
from refimpl.store.wire import OK, PAYLOAD_MAX, Operation, split_strings, strings


@pytest.fixture
def client(database, speak):
    return speak(database)


@pytest.fixture
def guest(database, speak, client):
    client.request(Operation.WRITE, b"/local/domain/1\0")
    client.request(Operation.SET_PERMS, b"/local/domain/1\0n1\0")
    return speak(database, 1)


ONE_STRING = [Operation.DIRECTORY, Operation.READ, Operation.GET_PERMS, Operation.MKDIR, Operation.RM]
ONE_STRING += [Operation.TRANSACTION_END, Operation.GET_DOMAIN_PATH, Operation.IS_DOMAIN_INTRODUCED]
ONE_STRING += [Operation.RELEASE, Operation.RESUME]


@pytest.mark.parametrize("payload", [b"", b"/tool", b"/tool\0x", b"/tool\0x\0", b"/tool\0\0", b"\0/tool\0"])
@pytest.mark.parametrize("operation", ONE_STRING)
def test_one_string_and_nothing_else(client, operation, payload):
    assert client.request(operation, payload).error == "EINVAL"


@pytest.mark.parametrize("payload", [b"", b"/a", b"/a\0"])
@pytest.mark.parametrize(
    "operation",
    [
        *(Operation.WATCH, Operation.UNWATCH, Operation.SET_PERMS, Operation.DIRECTORY_PART),
        *(Operation.INTRODUCE, Operation.SET_TARGET),
    ],
)
def test_strings_that_are_missing(client, operation, payload):
    assert client.request(operation, payload).error == "EINVAL"


@pytest.mark.parametrize("domid", [b"abc", b"", b"-1", b" 7", b"7 ", b"0x7", b"65536", b"000007", b"\xb2", b"4" * 4000])
def test_numbers_of_domains_are_decimal(client, domid):
    for operation in (Operation.GET_DOMAIN_PATH, Operation.IS_DOMAIN_INTRODUCED, Operation.RELEASE):
        assert client.request(operation, strings(domid)).error == "EINVAL"
    assert client.request(Operation.INTRODUCE, strings(domid, b"1", b"1")).error == "EINVAL"


def test_a_directory_that_just_fits_and_one_that_does_not(client):
    name = b"n" * 63  # 64 bytes with its NUL
    for number in range(PAYLOAD_MAX // 64):
        client.request(Operation.WRITE, b"/d/%02d" % number + name[2:] + b"\0")
    assert len(client.request(Operation.DIRECTORY, b"/d\0").payload) == PAYLOAD_MAX
    client.request(Operation.WRITE, b"/d/x\0")
    assert client.request(Operation.DIRECTORY, b"/d\0").error == "E2BIG"


def whole_directory(client, path):
    """Read a directory in parts, as libxenstore does."""
    names, generations = b"", set()
    while True:
        reply = client.request(Operation.DIRECTORY_PART, strings(path, b"%d" % len(names)))
        assert reply.error is None
        assert reply.payload.endswith(b"\0")
        generation, _, part = reply.payload.partition(b"\0")
        generations.add(generation)
        if part.endswith(b"\0\0") or part == b"\0":
            return split_strings(names + part[:-1]), generations
        names += part


@pytest.mark.parametrize("count", [0, 1, 100, 1000])
@pytest.mark.parametrize("length", [1, 20, 300])
def test_a_directory_in_parts(client, count, length):
    names = [b"%d-" % number + b"n" * length for number in range(count)]
    client.request(Operation.MKDIR, b"/d\0")
    for name in names:
        client.request(Operation.WRITE, b"/d/" + name + b"\0")
    found, generations = whole_directory(client, b"/d")
    assert found == names
    assert len(generations) == 1
    client.request(Operation.WRITE, b"/d/more\0")
    assert whole_directory(client, b"/d")[1] != generations


@pytest.mark.parametrize("size", range(PAYLOAD_MAX - 10, PAYLOAD_MAX + 3))
def test_a_directory_that_nearly_fits_in_one_part(client, size):
    names = [b"%02d" % number + b"n" * 61 for number in range(63)]  # 64 bytes each, with its NUL
    names.append(b"x" * (size - 63 * 64 - 1))
    for name in names:
        client.request(Operation.WRITE, b"/d/" + name + b"\0")
    assert whole_directory(client, b"/d")[0] == names


@pytest.mark.parametrize("offset", [b"2", b"3", b"999999999"])
def test_a_part_behind_the_end_is_the_end(client, offset):
    client.request(Operation.WRITE, b"/d/a\0")
    assert client.request(Operation.DIRECTORY_PART, strings(b"/d", offset)).payload.endswith(b"\0\0")


@pytest.mark.parametrize("offset", [b"", b"-1", b"x", b"1" * 10, b"\xb2"])
def test_offsets_are_decimal(client, offset):
    assert client.request(Operation.DIRECTORY_PART, strings(b"/tool", offset)).error == "EINVAL"


def test_the_longest_value(client):
    payload = strings(b"/a") + b"v" * (PAYLOAD_MAX - 3)
    assert client.request(Operation.WRITE, payload).payload == OK
    assert client.request(Operation.READ, b"/a\0").payload == payload[3:]


def test_permissions_too_long_for_a_reply(client):
    entries = [b"n%d" % number for number in range(1000)]
    for operation_payload in (strings(b"/a", *entries[:700]), strings(b"/a", *entries[300:])):
        client.request(Operation.WRITE, b"/a\0")
        assert client.request(Operation.SET_PERMS, operation_payload).payload == OK
    assert client.request(Operation.GET_PERMS, b"/a\0").payload == strings(*entries[300:])


def test_who_may_set_permissions_of_special_paths(client, guest):
    assert guest.request(Operation.SET_PERMS, b"@releaseDomain\0n1\0").error == "EACCES"
    assert client.request(Operation.SET_PERMS, b"@releaseDomain\0n1\0").payload == OK
    assert guest.request(Operation.SET_PERMS, b"@releaseDomain\0n1\0r2\0").payload == OK
    assert guest.request(Operation.SET_PERMS, b"@introduceDomain\0n1\0r2\0").error == "EACCES"
    assert client.request(Operation.SET_PERMS, b"@bogus\0n0\0").error == "EINVAL"


def test_setting_a_target_needs_both_domains(database, client):
    database.introduce(1)
    assert client.request(Operation.SET_TARGET, b"1\x002\0").error == "ENOENT"
    assert client.request(Operation.SET_TARGET, b"2\x001\0").error == "ENOENT"
    database.introduce(2)
    assert client.request(Operation.SET_TARGET, b"1\x002\0").payload == OK
    assert client.request(Operation.RESUME, b"1\0").payload == OK


def test_a_release_on_the_wire_is_a_release(database, client):
    database.introduce(1)
    assert client.request(Operation.RELEASE, b"1\0").payload == OK
    assert client.request(Operation.RELEASE, b"1\0").error == "ENOENT"
    assert database.released == [1]


def test_every_operation_of_the_wire_is_answered(client):
    for operation in Operation:
        reply = client.request(operation, b"1\0")
        assert (reply.error == "ENOSYS") == (operation not in HANDLERS)


def test_every_operation_says_what_it_is():
    for operation, handler in HANDLERS.items():
        assert handler.__doc__.startswith(f"{Operation(operation).name}:")
