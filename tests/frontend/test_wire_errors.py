"""Numbers from the wire become the socket module's exceptions."""

from __future__ import annotations

import errno

import pytest

from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import DeviceGone
from refimpl.frontend.wire_errors import end_of_stream, fresh, wire_error


@pytest.mark.spec("ERRNO-1")
@pytest.mark.erratum("E-ERRTABLE", "E-SIGN", "E-ENOTSUP")
@pytest.mark.parametrize(
    "number, kind, local",
    [
        (-111, ConnectionRefusedError, errno.ECONNREFUSED),
        (111, ConnectionRefusedError, errno.ECONNREFUSED),
        (-32, BrokenPipeError, errno.EPIPE),
        (-524, OSError, errno.EOPNOTSUPP),
        (-95, OSError, errno.EOPNOTSUPP),
        (-97, OSError, errno.EAFNOSUPPORT),
        (-3999, OSError, errno.EIO),
    ],
)
def test_each_number_is_the_exception_python_programs_expect(number, kind, local):
    error = wire_error(number, "connect")
    assert type(error) is kind
    assert (error.errno, error.error_number) == (local, number)
    assert "connect" in str(error)


@pytest.mark.spec("IDXPAGE-17", "ACCEPT-6")
@pytest.mark.parametrize("number", [ErrorNumber.EAGAIN, ErrorNumber.EINPROGRESS, ErrorNumber.EINTR])
def test_no_answer_says_not_yet(number):
    error = wire_error(number, "accept")
    assert not isinstance(error, BlockingIOError | InterruptedError)
    assert (error.errno, error.error_number) == (errno.EIO, int(number))


@pytest.mark.erratum("E-SIGN")
def test_the_end_of_a_stream_is_107_of_either_sign():
    assert end_of_stream(-107)
    assert end_of_stream(107)
    assert not end_of_stream(-104)


def test_a_fresh_one_is_the_same_and_another():
    cause = ValueError("why")
    for error in (wire_error(-111, "connect"), DeviceGone(errno.EIO, "gone")):
        error.__cause__ = cause
        again = fresh(error)
        assert again is not error
        assert (type(again), again.args, vars(again)) == (type(error), error.args, vars(error))
        assert again.__cause__ is cause
