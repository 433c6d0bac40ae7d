"""What the backend's process may do beyond what it needs, given up at its start."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refimpl.backend import Policy

_CAP_NET_BIND_SERVICE = 10
_PR_CAPBSET_DROP = 24
_VERSION_3 = 0x20080522
_LOW_PORTS = range(1, 1024)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """The capabilities from 0 to 31, or from 32 on."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def give_up_low_ports(policy: Policy) -> None:
    """Give up the capability for TCP port numbers below 1024, for good, unless the policy lets a guest bind one.

    Before there is a second thread, which would keep it.
    """
    if may_bind_low_ports(policy):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()
    if libc.capget(ctypes.byref(header), sets) != 0 or not sets[0].permitted >> _CAP_NET_BIND_SERVICE & 1:
        return
    libc.prctl(_PR_CAPBSET_DROP, _CAP_NET_BIND_SERVICE, 0, 0, 0)
    for name in ("effective", "permitted", "inheritable"):
        setattr(sets[0], name, getattr(sets[0], name) & ~(1 << _CAP_NET_BIND_SERVICE))  # SEC-B-21
    if libc.capset(ctypes.byref(header), sets) != 0:
        print("refimpl: the capability to bind TCP port numbers below 1024 stays: capset failed", file=sys.stderr)


def may_bind_low_ports(policy: Policy) -> bool:
    """Say whether some guest's bind may come to a TCP port number below 1024."""
    from refimpl.backend.rules import Action

    if policy.allow_everything:
        return True
    for rule in policy.rules:
        if "bind" in rule.calls and rule.action is not Action.DENY:
            ports = rule.ports if rule.new_port_number is None else (rule.new_port_number,)
            if any(port in _LOW_PORTS for port in ports):
                return True
    return False
