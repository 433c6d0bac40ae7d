"""Where a PV Calls device lives in xenstore.

Spec: Xenstore; the paths are those libxl writes for any device type.
"""

from __future__ import annotations

#: The device type component of every path of a device.
DEVICE_TYPE = "pvcalls"  # XS-3


def domain_path(domid: int) -> str:
    """Return the domain's own directory, the base of its relative paths."""
    return f"/local/domain/{domid}"


def frontend_path(frontend_id: int, device_id: int = 0) -> str:
    """Return the frontend's directory: the guest owns it, the backend's domain reads it."""
    return f"{domain_path(frontend_id)}/device/{DEVICE_TYPE}/{device_id}"  # XS-1, XS-3


def backend_root(backend_id: int) -> str:
    """Return the directory under which all devices of one backend domain live."""
    return f"{domain_path(backend_id)}/backend/{DEVICE_TYPE}"  # XS-3


def backend_path(backend_id: int, frontend_id: int, device_id: int = 0) -> str:
    """Return the backend's directory of one device: the backend's domain owns it, the guest reads it."""
    return f"{backend_root(backend_id)}/{frontend_id}/{device_id}"  # XS-1, XS-3


def frontend_error_path(frontend_id: int, device_id: int = 0) -> str:
    """Return the node in which a frontend says why it gave up."""
    return f"{domain_path(frontend_id)}/error/device/{DEVICE_TYPE}/{device_id}/error"


def backend_error_path(backend_id: int, frontend_id: int, device_id: int = 0) -> str:
    """Return the node in which a backend says why it gave a device up."""
    return f"{domain_path(backend_id)}/error/backend/{DEVICE_TYPE}/{frontend_id}/{device_id}/error"
