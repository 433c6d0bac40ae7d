"""Section *Error numbers*: what a response's ``ret`` and the rings' error words may say.

The numbers are Linux's, negative, whatever system either end runs on. ENOTSUP is -524 here, a number of Linux's own
kernel, where POSIX systems say 95 (erratum E-ENOTSUP): never put ``errno.X`` on the wire.
The document's table leaves out what TCP returns most (erratum E-ERRTABLE); those are the second group.

Spec: Commands Ring > Error numbers.
"""

from __future__ import annotations

import errno
from enum import IntEnum


class ErrorNumber(IntEnum):
    """An error number as it stands on the wire."""

    EPERM = -1  # ERRNO-1
    ENOENT = -2
    ESRCH = -3
    EINTR = -4
    EIO = -5
    ENXIO = -6
    E2BIG = -7
    ENOEXEC = -8
    EBADF = -9
    ECHILD = -10
    EAGAIN = -11
    EWOULDBLOCK = -11  # ERRNO-3: an alias
    ENOMEM = -12
    EACCES = -13
    EFAULT = -14
    EBUSY = -16
    EEXIST = -17
    EXDEV = -18
    ENODEV = -19
    EISDIR = -21
    EINVAL = -22
    ENFILE = -23
    EMFILE = -24
    ENOSPC = -28
    EROFS = -30
    EMLINK = -31
    EDOM = -33
    ERANGE = -34
    EDEADLK = -35
    EDEADLOCK = -35  # ERRNO-3: an alias
    ENAMETOOLONG = -36
    ENOLCK = -37
    ENOSYS = -38
    ENOTEMPTY = -39
    ENODATA = -61
    ETIME = -62
    EBADMSG = -74
    EOVERFLOW = -75
    EILSEQ = -84
    ERESTART = -85
    ENOTSOCK = -88
    EOPNOTSUPP = -95
    EAFNOSUPPORT = -97
    EADDRINUSE = -98
    EADDRNOTAVAIL = -99
    ENOBUFS = -105
    EISCONN = -106
    ENOTCONN = -107
    ETIMEDOUT = -110
    ENOTSUP = -524  # ERRNO-2 (E-ENOTSUP)

    # E-ERRTABLE: not in the document's table.
    EPIPE = -32
    EPROTONOSUPPORT = -93
    ESOCKTNOSUPPORT = -94
    ENETDOWN = -100
    ENETUNREACH = -101
    ENETRESET = -102
    ECONNABORTED = -103
    ECONNRESET = -104
    ECONNREFUSED = -111
    EHOSTDOWN = -112
    EHOSTUNREACH = -113
    EALREADY = -114
    EINPROGRESS = -115


#: Names of the second group: they are not in the document's table.
NOT_IN_THE_DOCUMENT = frozenset(
    {
        "EPIPE", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ECONNABORTED",
        "ECONNRESET", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "EALREADY", "EINPROGRESS",
    }
)  # fmt: skip

#: ``ret`` is 0 or lies in this range, as Linux's own error pointers do.
LOWEST_ERROR_NUMBER = -4095

# By name, since the same name has other numbers on other systems. The aliases keep the canonical name.
_LOCAL_TO_WIRE = {
    local: ErrorNumber[name] for local, name in errno.errorcode.items() if name in ErrorNumber.__members__
}
_LOCAL_TO_WIRE[errno.EOPNOTSUPP] = ErrorNumber.EOPNOTSUPP  # Linux has one number for it and POSIX's ENOTSUP.
_WIRE_TO_LOCAL = {number.value: getattr(errno, number.name, errno.EIO) for number in ErrorNumber}
_WIRE_TO_LOCAL[ErrorNumber.ENOTSUP] = errno.EOPNOTSUPP  # E-ENOTSUP


def to_wire(local_errno: int | None) -> ErrorNumber:
    """Return the wire's number for this system's errno; EIO for one that has no name on the wire."""
    return _LOCAL_TO_WIRE.get(local_errno or 0, ErrorNumber.EIO)  # ERRNO-1


def to_local_errno(wire: int) -> int:
    """Return this system's errno for a number from the wire, of either sign (erratum E-SIGN); EIO if unknown."""
    return _WIRE_TO_LOCAL.get(-abs(wire), errno.EIO)  # ERRNO-1 (E-ERRTABLE)


def name_of(wire: int) -> str:
    """Return the name of a number from the wire for a person, such as ``"ECONNREFUSED"`` or ``"error -4000"``."""
    try:
        return ErrorNumber(-abs(wire)).name
    except ValueError:
        return f"error {wire}"
