"""The wire protocol's numbers and names against Xen's own header, and the paths."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.store import wire

XS_WIRE_HEADER = Path("/usr/include/xen/io/xs_wire.h")

PRINT_FROM_HEADER = r"""
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <xen/io/xs_wire.h>
#define SHOW(x) printf(#x " %d\n", (int)(x))
int main(void)
{
    SHOW(XS_CONTROL); SHOW(XS_DIRECTORY); SHOW(XS_READ); SHOW(XS_GET_PERMS); SHOW(XS_WATCH); SHOW(XS_UNWATCH);
    SHOW(XS_TRANSACTION_START); SHOW(XS_TRANSACTION_END); SHOW(XS_INTRODUCE); SHOW(XS_RELEASE);
    SHOW(XS_GET_DOMAIN_PATH); SHOW(XS_WRITE); SHOW(XS_MKDIR); SHOW(XS_RM); SHOW(XS_SET_PERMS);
    SHOW(XS_WATCH_EVENT); SHOW(XS_ERROR); SHOW(XS_IS_DOMAIN_INTRODUCED); SHOW(XS_RESUME); SHOW(XS_SET_TARGET);
    SHOW(XS_RESET_WATCHES); SHOW(XS_DIRECTORY_PART);
    SHOW(XENSTORE_PAYLOAD_MAX); SHOW(XENSTORE_ABS_PATH_MAX); SHOW(XENSTORE_REL_PATH_MAX);
    SHOW(sizeof(struct xsd_sockmsg));
    SHOW(offsetof(struct xsd_sockmsg, type)); SHOW(offsetof(struct xsd_sockmsg, req_id));
    SHOW(offsetof(struct xsd_sockmsg, tx_id)); SHOW(offsetof(struct xsd_sockmsg, len));
    for (unsigned int i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
        printf("error %s\n", xsd_errors[i].errstring);
    return 0;
}
"""


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    """Return what Xen's header says, as the C compiler sees it."""
    if not XS_WIRE_HEADER.exists():
        pytest.skip("needs xen/io/xs_wire.h (package libxen-dev)")
    if shutil.which("gcc") is None:
        pytest.skip("needs a C compiler (package gcc)")
    folder = tmp_path_factory.mktemp("wire")
    (folder / "show.c").write_text(PRINT_FROM_HEADER)
    subprocess.run(["gcc", "-o", folder / "show", folder / "show.c"], check=True)
    lines = subprocess.run([folder / "show"], check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.rsplit(" ", 1) for line in lines]


def test_operations_are_those_of_the_header(header):
    numbers = {name.removeprefix("XS_"): int(value) for name, value in header if name.startswith("XS_")}
    ours = {operation.name: operation.value for operation in wire.Operation}
    assert numbers.items() <= ours.items()
    assert set(ours) - set(numbers) == {"GET_FEATURE", "SET_FEATURE", "GET_QUOTA", "SET_QUOTA"}  # newer than 4.17


def test_limits_are_those_of_the_header(header):
    numbers = dict(header)
    assert int(numbers["XENSTORE_PAYLOAD_MAX"]) == wire.PAYLOAD_MAX
    assert int(numbers["XENSTORE_ABS_PATH_MAX"]) == wire.ABSOLUTE_PATH_MAX
    assert int(numbers["XENSTORE_REL_PATH_MAX"]) == wire.RELATIVE_PATH_MAX


def test_the_header_is_laid_out_as_the_c_structure(header):
    numbers = dict(header)
    assert int(numbers["sizeof(struct xsd_sockmsg)"]) == wire.HEADER.size == 16
    for member in ("type", "req_id", "tx_id", "len"):
        assert int(numbers[f"offsetof(struct xsd_sockmsg, {member})"]) == wire.HEADER.offset_of(member)


def test_error_names_are_those_of_the_header_in_its_order(header):
    assert [value for name, value in header if name == "error"] == list(wire.ErrorName)


def test_packet_is_header_then_payload():
    assert wire.packet(wire.Operation.READ, b"/a\0", 7, 9).hex() == "020000000700000009000000030000002f6100"


@pytest.mark.parametrize("path", [b"/", b"/a", b"/local/domain/0", b"/a-b/C_9/@x", b"/" + b"a" * 3071])
def test_paths_of_nodes(path):
    assert wire.is_node_path(path)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"a",
        b"//",
        b"/a/",
        b"/a//b",
        b"/a.b",
        b"/a:b",
        b"/a b",
        b"/\xc3\xa4",
        b"/a\0",
        b"/a\n",
        b"@x",
        b"/" + b"a" * 3072,
    ],
)
def test_paths_of_no_node(path):
    assert not wire.is_node_path(path)


@pytest.mark.parametrize(("path", "parent"), [(b"/", b"/"), (b"/a", b"/"), (b"/a/b", b"/a"), (b"/a/b/c", b"/a/b")])
def test_parent_path(path, parent):
    assert wire.parent_path(path) == parent


@given(st.lists(st.from_regex(rb"[a-z0-9_@-]{1,8}", fullmatch=True), min_size=1, max_size=6))
def test_a_child_path_leads_back_to_its_parent(names):
    path = b"/"
    for name in names:
        child = wire.child_path(path, name)
        assert wire.is_node_path(child)
        assert wire.parent_path(child) == path
        path = child


@given(st.lists(st.binary(max_size=5).filter(lambda text: b"\0" not in text)), st.binary(max_size=3))
def test_strings_are_split_as_they_were_joined(texts, rest):
    rest = rest.replace(b"\0", b"")
    assert wire.split_strings(wire.strings(*texts) + rest) == texts
