"""The xenstore wire protocol: what the server and its clients both have to know.

A message, in either direction, is a header of 16 bytes and then ``len`` bytes of payload. A reply carries the type,
``req_id`` and ``tx_id`` of its request; an error carries the ids with the type ERROR and an error's name. Watch events
come unasked, with ids 0. Strings in payloads end in a NUL, except a value, which is last and takes what is left.

Spec: Xenstore (what it stands on; the protocol itself is Xen's, `docs/misc/xenstore.txt` and `io/xs_wire.h`).
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum

from refimpl.layout import Layout

#: The header. ``type`` is an :class:`Operation`; ``tx_id`` is 0 outside transactions; ``len`` counts payload bytes.
HEADER = Layout("xsd_sockmsg", ("type", "I"), ("req_id", "I"), ("tx_id", "I"), ("len", "I"))

#: The longest payload, in bytes. A server closes the connection of a client that announces more.
PAYLOAD_MAX = 4096
#: The longest absolute path, in bytes.
ABSOLUTE_PATH_MAX = 3072
#: The longest relative path, in bytes, and the longest path of a special watch.
RELATIVE_PATH_MAX = 2048

#: What a request without a result is answered with.
OK = b"OK\0"
#: The special path whose watches fire when a domain becomes known.
INTRODUCE_DOMAIN = b"@introduceDomain"
#: The special path whose watches fire when a domain has died or was released.
RELEASE_DOMAIN = b"@releaseDomain"

#: In a request, the domain that asks. Also the first of the numbers that no real domain has.
DOMID_SELF = 0x7FF0


class Operation(IntEnum):
    """What a message is: the header's ``type``."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESET_WATCHES = 21
    DIRECTORY_PART = 22
    GET_FEATURE = 23
    SET_FEATURE = 24
    GET_QUOTA = 25
    SET_QUOTA = 26


class ErrorName(StrEnum):
    """The errors that go on the wire; xenstore sends the name, not a number."""

    EINVAL = "EINVAL"
    EACCES = "EACCES"
    EEXIST = "EEXIST"
    EISDIR = "EISDIR"
    ENOENT = "ENOENT"
    ENOMEM = "ENOMEM"
    ENOSPC = "ENOSPC"
    EIO = "EIO"
    ENOTEMPTY = "ENOTEMPTY"
    ENOSYS = "ENOSYS"
    EROFS = "EROFS"
    EBUSY = "EBUSY"
    EAGAIN = "EAGAIN"
    EISCONN = "EISCONN"
    E2BIG = "E2BIG"
    EPERM = "EPERM"


_NODE_PATH = re.compile(rb"/|(?:/[-A-Za-z0-9_@]+)+")


def packet(operation: int, payload: bytes = b"", req_id: int = 0, tx_id: int = 0) -> bytes:
    """Return one whole message. The payload's length is not checked: a hostile client's tests want it wrong."""
    return HEADER.pack(operation, req_id, tx_id, len(payload)) + payload


def strings(*texts: bytes) -> bytes:
    """Return the strings as a payload has them, each ended by a NUL."""
    return b"".join(text + b"\0" for text in texts)


def split_strings(payload: bytes) -> list[bytes]:
    """Return the payload's NUL-ended strings; bytes after the last NUL are not a string and are left out."""
    return payload.split(b"\0")[:-1]


def is_node_path(path: bytes) -> bool:
    """Whether this is an absolute path of a node: legal characters, no empty name, not too long.

    Letters, digits and ``- / _ @`` are legal; only the root ends in a slash.
    """
    return len(path) <= ABSOLUTE_PATH_MAX and _NODE_PATH.fullmatch(path) is not None


def is_special_path(path: bytes) -> bool:
    """Whether this names an event rather than a node, as ``@releaseDomain`` does."""
    return path.startswith(b"@")


def domain_path(domid: int) -> bytes:
    """Return the domain's own directory, which its relative paths start from."""
    return b"/local/domain/%d" % domid


def parent_path(path: bytes) -> bytes:
    """Return the path of the node's parent; the root is its own."""
    return path[: path.rindex(b"/")] or b"/"


def child_path(path: bytes, name: bytes) -> bytes:
    """Return the path of the node's child of this name."""
    return (b"/" if path == b"/" else path + b"/") + name
