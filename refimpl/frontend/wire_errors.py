"""Error numbers from the backend as the exceptions the socket module raises.

Spec: Commands Ring > Error numbers.
"""

from __future__ import annotations

import errno
from typing import TypeVar

from refimpl.commands.error_numbers import ErrorNumber, name_of, to_local_errno

Error = TypeVar("Error", bound=Exception)

# They would say "not yet", and the protocol has no such answer: a response is the end of its request.
_NO_ANSWERS = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINPROGRESS, errno.EINTR})


def wire_error(number: int, doing: str) -> OSError:
    """Return the exception for an error number of either sign: ConnectionRefusedError and so on.

    Its attribute ``error_number`` is the raw value from the wire, also where this system has no name for it.
    """
    local = to_local_errno(number)  # ERRNO-1 (E-SIGN)
    if local in _NO_ANSWERS:
        local = errno.EIO  # ACCEPT-6, IDXPAGE-17
    error = OSError(local, f"{doing}: the backend answers {name_of(number)}")
    vars(error)["error_number"] = int(number)
    return error


def end_of_stream(number: int) -> bool:
    """Say whether ``in_error`` means that the peer has closed in order, and nothing worse."""
    return -abs(number) == ErrorNumber.ENOTCONN  # IDXPAGE-16 (E-SIGN)


def fresh(error: Error) -> Error:
    """Return the same exception anew, to be raised once more, by any thread."""
    again = type(error)(*error.args)
    vars(again).update(vars(error))
    again.__cause__ = error.__cause__
    return again
