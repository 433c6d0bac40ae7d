"""What the kernel tells the peer when pages are given back or their process dies: a byte cleared, an event sent.

PV Calls has no byte for it and no peer but ours looks: it is for our own two ends, and off unless asked for.
"""

from __future__ import annotations

import errno

from refimpl.errors import Misuse, PortRefused
from refimpl.xen import ioctls


def set_notice(descriptor: int, index: int, size_bytes: int, clear_byte: int | None, send_event: int | None) -> None:
    """Set the notice of the pages at ``index`` of a gntalloc or gntdev descriptor; with neither, take it back."""
    if clear_byte is not None and not 0 <= clear_byte < size_bytes:
        raise Misuse(f"no byte {clear_byte} in {size_bytes}")
    action = ioctls.UNMAP_NOTIFY_CLEAR_BYTE if clear_byte is not None else 0
    action |= ioctls.UNMAP_NOTIFY_SEND_EVENT if send_event is not None else 0
    argument = ioctls.UNMAP_NOTIFY_LAYOUT.pack(index + (clear_byte or 0), action, send_event or 0)
    try:
        ioctls.request(descriptor, ioctls.SET_UNMAP_NOTIFY, argument)
    except OSError as error:
        if error.errno == errno.EINVAL and send_event is not None:
            raise PortRefused(send_event, "not one of ours") from error
        raise Misuse(f"no notice can be left on these pages: {error.strerror}") from error
