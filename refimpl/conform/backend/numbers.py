"""The error numbers of the wire, written a second time: probes share nothing with the code under test."""

from __future__ import annotations

EINTR, EBADF, EFAULT, EEXIST, EINVAL, EMFILE, ENFILE = -4, -9, -14, -17, -22, -24, -23
EOPNOTSUPP, EAFNOSUPPORT, EADDRINUSE, EADDRNOTAVAIL, ENOBUFS, EISCONN, ENOTCONN = -95, -97, -98, -99, -105, -106, -107
ECONNRESET, EPIPE, ECONNREFUSED, ENOTSUP = -104, -32, -111, -524
#: Where the document names no number, or another than systems give.
ERRORS = range(-4095, 0)
#: The document's table, without repetitions.
TABLE = frozenset(
    (*range(-14, 0), *range(-19, -15), *range(-24, -20), -28, -30, -31, *range(-39, -32), -61, -62, -74, -75, -84, -85)
) | {-88, -95, *range(-99, -96), *range(-107, -104), -110, -524}
#: What TCP returns most is not in it (E-ERRTABLE): these are Linux's.
BESIDE_THE_TABLE = frozenset((-32, -93, -94, *range(-104, -99), *range(-115, -110)))
