"""Error numbers: the document's table, this system's, and back."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.commands.error_numbers import NOT_IN_THE_DOCUMENT, ErrorNumber, name_of, to_local_errno, to_wire


@pytest.mark.spec("ERRNO-1")
@pytest.mark.parametrize("number", [n for n in ErrorNumber if n is not ErrorNumber.ENOTSUP])
def test_numbers_are_linuxs_negative_ones_and_survive_the_way_there_and_back(number: ErrorNumber) -> None:
    local = getattr(errno, number.name)
    assert number == -local  # This is Linux.
    assert to_wire(local) is number
    assert to_local_errno(number) == local


@pytest.mark.spec("ERRNO-2")
@pytest.mark.erratum("E-ENOTSUP")
def test_enotsup_is_524_on_the_wire_and_operation_not_supported_here() -> None:
    assert ErrorNumber.ENOTSUP == -524
    assert to_local_errno(-524) == to_local_errno(-95) == errno.EOPNOTSUPP
    assert to_wire(errno.EOPNOTSUPP) is ErrorNumber.EOPNOTSUPP


@pytest.mark.spec("ERRNO-3")
def test_the_document_has_fifty_names_for_forty_eight_numbers() -> None:
    names = set(ErrorNumber.__members__) - NOT_IN_THE_DOCUMENT
    assert len(names) == 50
    assert len({ErrorNumber[name].value for name in names}) == 48
    assert ErrorNumber["EWOULDBLOCK"] is ErrorNumber.EAGAIN
    assert ErrorNumber["EDEADLOCK"] is ErrorNumber.EDEADLK


@pytest.mark.erratum("E-ERRTABLE")
def test_what_tcp_returns_most_has_linuxs_numbers_though_the_table_has_none() -> None:
    wanted = {"ECONNREFUSED": -111, "ECONNRESET": -104, "EPIPE": -32, "EHOSTUNREACH": -113, "ENETUNREACH": -101}
    assert {name: ErrorNumber[name].value for name in wanted} == wanted


@given(st.integers(-(2**31), 2**31 - 1))
@pytest.mark.erratum("E-ERRTABLE", "E-SIGN")
def test_any_number_from_a_peer_is_some_errno_of_either_sign(wire: int) -> None:
    assert to_local_errno(wire) == to_local_errno(-wire)
    assert isinstance(name_of(wire), str)
    if -abs(wire) not in set(ErrorNumber):
        assert to_local_errno(wire) == errno.EIO


@pytest.mark.parametrize("unknown", [0, None, 10**6, errno.EXFULL])
def test_an_errno_without_a_name_on_the_wire_is_eio(unknown: int | None) -> None:
    assert to_wire(unknown) is ErrorNumber.EIO
