"""The platform on Xen: grants by gntalloc, maps by gntdev, event channels by evtchn, xenstore by xenbus."""

from refimpl.xen.domain import XenPlatform

__all__ = ["XenPlatform"]
