"""The requests of Linux's Xen device nodes: their numbers, and the structures they carry.

A number is ``size << 16 | type << 8 | nr`` with no direction bits (Linux defines them all with ``_IOC_NONE``), the same
on x86 and Arm; the tests compile Linux's own headers and compare. Structures are the kernel's, in its byte order and
with its padding.
"""

from __future__ import annotations

import fcntl

from refimpl.layout import Layout

_GRANT, _EVENT = ord("G"), ord("E")


def _number(kind: int, nr: int, size_bytes: int) -> int:
    return size_bytes << 16 | kind << 8 | nr


# /dev/xen/gntalloc: pages of our own, granted to another domain.

#: ``gref_ids`` has ``count`` entries; the kernel writes all 24 bytes back even when there is only one.
ALLOC_GREF_LAYOUT = Layout(
    "ioctl_gntalloc_alloc_gref",
    ("domid", "H"),
    ("flags", "H"),
    ("count", "I"),
    ("index", "Q"),
    ("gref_ids", "I"),
    total_size=24,
)
DEALLOC_GREF_LAYOUT = Layout("ioctl_gntalloc_dealloc_gref", ("index", "Q"), ("count", "I"), total_size=16)

GNTALLOC_ALLOC_GREF = _number(_GRANT, 5, ALLOC_GREF_LAYOUT.size)
GNTALLOC_DEALLOC_GREF = _number(_GRANT, 6, DEALLOC_GREF_LAYOUT.size)
GNTALLOC_FLAG_WRITABLE = 1

# /dev/xen/gntdev: pages that another domain granted, mapped here.

#: ``refs`` has ``count`` entries of :data:`GRANT_REF_LAYOUT`, the first of which is shown here as its two members.
MAP_GRANT_REF_LAYOUT = Layout(
    "ioctl_gntdev_map_grant_ref",
    ("count", "I"),
    ("pad", "4x"),
    ("index", "Q"),
    ("refs", "8x"),
)
GRANT_REF_LAYOUT = Layout("ioctl_gntdev_grant_ref", ("domid", "I"), ("ref", "I"))
UNMAP_GRANT_REF_LAYOUT = Layout("ioctl_gntdev_unmap_grant_ref", ("index", "Q"), ("count", "I"), ("pad", "4x"))

GNTDEV_MAP_GRANT_REF = _number(_GRANT, 0, MAP_GRANT_REF_LAYOUT.size)
GNTDEV_UNMAP_GRANT_REF = _number(_GRANT, 1, UNMAP_GRANT_REF_LAYOUT.size)

# Both: what the kernel does when the pages are given back, or their process dies.

#: ``index`` is the map's own index plus the byte's offset in it.
UNMAP_NOTIFY_LAYOUT = Layout("ioctl_gntdev_unmap_notify", ("index", "Q"), ("action", "I"), ("event_channel_port", "I"))
SET_UNMAP_NOTIFY = _number(_GRANT, 7, UNMAP_NOTIFY_LAYOUT.size)
UNMAP_NOTIFY_CLEAR_BYTE = 1
UNMAP_NOTIFY_SEND_EVENT = 2

# /dev/xen/evtchn: event channels. The two binds return the port as the ioctl's own value.

BIND_INTERDOMAIN_LAYOUT = Layout("ioctl_evtchn_bind_interdomain", ("remote_domain", "I"), ("remote_port", "I"))
BIND_UNBOUND_PORT_LAYOUT = Layout("ioctl_evtchn_bind_unbound_port", ("remote_domain", "I"))
PORT_LAYOUT = Layout("ioctl_evtchn_notify", ("port", "I"))
RESTRICT_DOMID_LAYOUT = Layout("ioctl_evtchn_restrict_domid", ("domid", "H"))

EVTCHN_BIND_INTERDOMAIN = _number(_EVENT, 1, BIND_INTERDOMAIN_LAYOUT.size)
EVTCHN_BIND_UNBOUND_PORT = _number(_EVENT, 2, BIND_UNBOUND_PORT_LAYOUT.size)
EVTCHN_UNBIND = _number(_EVENT, 3, PORT_LAYOUT.size)
EVTCHN_NOTIFY = _number(_EVENT, 4, PORT_LAYOUT.size)
EVTCHN_RESET = _number(_EVENT, 5, 0)
EVTCHN_RESTRICT_DOMID = _number(_EVENT, 6, RESTRICT_DOMID_LAYOUT.size)


def request(descriptor: int, number: int, argument: bytes | bytearray = b"") -> int:
    """Carry out an ioctl; return its value. A bytearray is written back into. Raises OSError."""
    # Python gives the ioctl's own value only for a mutable buffer: for bytes it returns the buffer.
    value: int = fcntl.ioctl(descriptor, number, argument if isinstance(argument, bytearray) else bytearray(argument))
    return value
