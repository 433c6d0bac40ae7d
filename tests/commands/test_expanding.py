"""Commands this version has, and those it has not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.commands.expanding import COMMANDS, command_name, decode
from refimpl.commands.message import ARGUMENTS_SIZE_BYTES, Command, RequestHead, request_layout


@pytest.mark.spec("RAT-3", "RING-16", "EXPAND-1")
@pytest.mark.erratum("E-ENOTSUP")
@pytest.mark.parametrize("cmd", [7, 8, 255, 2**31, 2**32 - 1])
def test_an_unknown_command_is_answered_not_supported(carry_out, cmd: int) -> None:
    request, steps = decode(RequestHead(4, cmd, 2**64 - 1).to_bytes())
    assert request == RequestHead(4, cmd, 2**64 - 1)
    assert carry_out(steps, {}).error_number == -524
    assert command_name(cmd) == "unknown"


@pytest.mark.parametrize("command", Command)
def test_each_command_is_decoded_as_its_own_request(command: Command) -> None:
    request, _steps = decode(RequestHead(4, command, 9).to_bytes())
    assert type(request) is COMMANDS[command][0]
    assert (request.req_id, request.cmd, request.id) == (4, command, 9)


@pytest.mark.spec("RING-11")
def test_no_commands_arguments_are_larger_than_56_bytes() -> None:
    for request, _steps in COMMANDS.values():
        last = request.LAYOUT.fields[-1]
        assert last.offset + last.size - 8 <= ARGUMENTS_SIZE_BYTES == 56


@pytest.mark.spec("RING-11", "EXPAND-3")
def test_a_command_with_larger_arguments_cannot_be_declared_in_this_version() -> None:
    assert request_layout("fits", ("id", "Q"), ("argument", "48s")).size == 64
    with pytest.raises(ValueError, match="past 64"):
        request_layout("does not", ("id", "Q"), ("argument", "49s"))


@given(st.binary(min_size=64, max_size=64))
def test_any_64_bytes_decode_to_some_request(slot: bytes) -> None:
    request, steps = decode(slot)
    steps.close()
    assert request.req_id == int.from_bytes(slot[:4], "little")
    assert request.cmd == int.from_bytes(slot[4:8], "little")
    assert request.id == int.from_bytes(slot[8:16], "little")
