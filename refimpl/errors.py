"""The whole exception tree.

    RefimplError
    ├── Misuse                    our caller asked for what cannot be (also a ValueError)
    ├── PeerViolation             the other domain broke the protocol
    ├── CommandRefused            a command of the protocol is answered with an error number
    ├── DeviceGone                the PV Calls device closed or vanished under its sockets (also a ConnectionError)
    ├── RemovalTimedOut           a backend did not close a device that is to be removed (also a TimeoutError)
    ├── PlatformError             the memory layer refused
    │   ├── PlatformUnavailable   this machine cannot run the platform at all
    │   ├── GrantRefused          bad, foreign, ended or read-only ref: Xen says no more than that
    │   ├── PortRefused           an event channel absent, in use or not ours
    │   ├── LimitReached          out of grants, pages, ports
    │   ├── PermissionRefused     not allowed to open or use a device
    │   ├── DeviceInUse           another process holds the PV Calls device
    │   ├── ForkedDomain          a forked child called into its parent's domain
    │   └── DomainClosed          the domain was closed or has died
    └── StoreError                a xenstore request failed
        ├── StoreNoEntry          ENOENT
        ├── StoreAccessRefused    EACCES
        ├── StoreExists           EEXIST
        ├── StoreConflict         EAGAIN: the transaction has to be done again
        ├── StoreQuotaReached     ENOSPC, EDQUOT, E2BIG
        └── StoreLost             the server is gone, silent past the deadline, or spoke nonsense

Exceptions carry fields, so that a program need not read their words; ``str()`` is one line for a person.
"""

from __future__ import annotations


class RefimplError(Exception):
    """Base of everything this package raises on purpose."""


class Misuse(RefimplError, ValueError):
    """Our own caller asked for something that cannot be, whatever the peer does."""


class PeerViolation(RefimplError):
    """The other domain broke the protocol.

    Fields: ``requirement`` (catalogue id), ``field`` (the document's name for it), ``value`` (what was found),
    ``allowed`` (in words), ``peer`` (its domid, None where not known).
    """

    def __init__(self, requirement: str, field: str, value: object, allowed: str, peer: int | None = None) -> None:
        super().__init__(requirement, field, value, allowed, peer)
        self.requirement = requirement
        self.field = field
        self.value = value
        self.allowed = allowed
        self.peer = peer

    def __str__(self) -> str:
        who = "the peer" if self.peer is None else f"domain {self.peer}"
        return f"{who} broke {self.requirement}: {self.field} is {self.value!r}, allowed: {self.allowed}"


class CommandRefused(RefimplError):
    """A command is answered with an error number.

    ``error_number`` is the negative number that goes on the wire (see ``commands/error_numbers.py``).
    """

    def __init__(self, error_number: int, reason: str) -> None:
        super().__init__(error_number, reason)
        self.error_number = int(error_number)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} ({self.error_number})"


class DeviceGone(RefimplError, ConnectionError):
    """The PV Calls device closed, or vanished, with work outstanding on it."""


class RemovalTimedOut(RefimplError, TimeoutError):
    """A backend did not close a device in time that the toolstack wants to remove; the device is still there."""

    def __init__(self, frontend_id: int, device_id: int, seconds: float) -> None:
        super().__init__(frontend_id, device_id, seconds)
        self.frontend_id = frontend_id
        self.device_id = device_id
        self.seconds = seconds

    def __str__(self) -> str:
        device = f"device {self.device_id} of domain {self.frontend_id}"
        return f"the backend did not close {device} in {self.seconds:g} s; by force it is removed all the same"


class PlatformError(RefimplError):
    """The memory layer refused."""


class PlatformUnavailable(PlatformError):
    """This machine cannot run the platform; the message says what is missing and how to get it."""


class GrantRefused(PlatformError):
    """A map was refused: one of the refs is bad, foreign, ended or read-only. Xen does not say which."""

    def __init__(self, granter: int, refs: tuple[int, ...] = ()) -> None:
        super().__init__(granter, refs)
        self.granter = granter
        self.refs = refs

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.refs[:4])) + (", ..." if len(self.refs) > 4 else "")
        return f"domain {self.granter} grants us no such map (refs {shown})"


class PortRefused(PlatformError):
    """An event channel is absent, already bound, or not ours."""

    def __init__(self, port: int, reason: str, remote: int | None = None) -> None:
        super().__init__(port, reason, remote)
        self.port = port
        self.reason = reason
        self.remote = remote

    def __str__(self) -> str:
        of = "" if self.remote is None else f" of domain {self.remote}"
        return f"port {self.port}{of}: {self.reason}"


class LimitReached(PlatformError):
    """A limit of the platform is reached; ``remedy`` says what to raise or free."""

    def __init__(self, what: str, limit: int | None = None, remedy: str = "") -> None:
        super().__init__(what, limit, remedy)
        self.what = what
        self.limit = limit
        self.remedy = remedy

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" (limit {self.limit})"
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"no more {self.what}{limit}{remedy}"


class PermissionRefused(PlatformError):
    """The process may not open or use a device or an address the platform needs."""


class DeviceInUse(PlatformError):
    """Another process holds a PV Calls device; ``pid`` is its id, None where it cannot be seen."""

    def __init__(self, device: str, pid: int | None) -> None:
        super().__init__(device, pid)
        self.device = device
        self.pid = pid

    def __str__(self) -> str:
        who = "another process" if self.pid is None else f"process {self.pid}"
        return f"{who} holds {self.device}"


class ForkedDomain(PlatformError):
    """A forked child used its parent's domain: after a fork the child owns nothing."""


class DomainClosed(PlatformError):
    """The domain of this process was closed, or the hypervisor's stand-in says it is dead."""


class StoreError(RefimplError):
    """A xenstore request failed. ``error_name`` is xenstore's own word (``"ENOENT"``), ``path`` what was asked."""

    def __init__(self, error_name: str, path: str = "", detail: str = "") -> None:
        super().__init__(error_name, path, detail)
        self.error_name = error_name
        self.path = path
        self.detail = detail

    def __str__(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        return f"xenstore {self.error_name} {self.path}".rstrip() + detail


class StoreNoEntry(StoreError):
    """ENOENT: no such node."""


class StoreAccessRefused(StoreError):
    """EACCES: the node's permissions do not allow it."""


class StoreExists(StoreError):
    """EEXIST: it is there already."""


class StoreConflict(StoreError):
    """EAGAIN: somebody else changed what the transaction stands on; do the whole of it again."""


class StoreQuotaReached(StoreError):
    """ENOSPC, EDQUOT or E2BIG: a quota of xenstore is reached."""


class StoreLost(StoreError):
    """The server is gone, did not answer in time, or sent what is not xenstore. Nothing hangs: it ends here."""
