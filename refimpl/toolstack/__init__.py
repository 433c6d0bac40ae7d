"""The toolstack's part: create and remove PV Calls devices as libxl does, node for node.

Of a device three directories exist; D is the device's number, F the frontend's domid, B the backend's:

    /local/domain/F/device/pvcalls/D      owner F, read by B    backend, backend-id, state
    /local/domain/B/backend/pvcalls/F/D   owner B, read by F    frontend, frontend-id, online, state
    /libxl/F/device/pvcalls/D             domain 0 alone        frontend, backend and copies never updated

The guest and the backend's domain can rewrite theirs, so what a device is comes from the third one only.

Spec: Xenstore.
"""

from refimpl.toolstack.devices import Device, attach, devices
from refimpl.toolstack.domains import introduce_domain_nodes
from refimpl.toolstack.guests import Change, Toolstack
from refimpl.toolstack.removal import REMOVAL_SECONDS, detach, reap

__all__ = [
    "REMOVAL_SECONDS",
    "Change",
    "Device",
    "Toolstack",
    "attach",
    "detach",
    "devices",
    "introduce_domain_nodes",
    "reap",
]
