"""Requests and responses against the C compiler's view of the public header."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.commands.expanding import COMMANDS
from refimpl.commands.message import REQUEST_SIZE_BYTES, Command, RequestHead, Response
from refimpl.layout import Structure

HEADER = Path("/usr/include/xen/io/pvcalls.h")
NAMES = {command: command.name.lower() for command in Command}
UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)


def compile_and_run(folder: Path, expressions: list[str]) -> list[int]:
    """Return what the C expressions are, with the public headers included."""
    if not HEADER.exists():
        pytest.skip("package libxen-dev is not installed")
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("package gcc is not installed")
    prints = "".join(f'printf("%ld\\n", (long)({e}));' for e in expressions)
    source = folder / "layout.c"
    source.write_text(
        "#include <stdio.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n"
        "#define __XEN_TOOLS__ 1\n#include <xen/xen.h>\n#include <xen/io/pvcalls.h>\n"
        f"int main(void) {{ {prints} return 0; }}\n"
    )
    subprocess.run([gcc, "-w", "-o", str(folder / "layout"), str(source)], check=True, capture_output=True)
    printed = subprocess.run([str(folder / "layout")], check=True, capture_output=True, text=True).stdout
    return [int(line) for line in printed.split()]


def own_fields(request: type[Structure]) -> list[tuple[str, int]]:
    return [(f.name, f.offset) for f in request.LAYOUT.fields if f.name not in ("req_id", "cmd")]


@pytest.mark.spec("RING-4")
@pytest.mark.erratum("E-CMD")
def test_command_numbers_are_the_headers(tmp_path: Path) -> None:
    found = compile_and_run(tmp_path, [f"PVCALLS_{command.name}" for command in Command])
    assert found == [int(command) for command in Command] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.spec("RING-5", "RING-6", "RING-7", "RING-8")
def test_every_request_is_64_bytes_with_the_common_head(tmp_path: Path) -> None:
    expressions = ["sizeof(struct xen_pvcalls_request)"]
    expressions += [f"offsetof(struct xen_pvcalls_request, {m})" for m in ("req_id", "cmd", "u")]
    assert compile_and_run(tmp_path, expressions) == [REQUEST_SIZE_BYTES, 0, 4, 8]
    for request, _steps in COMMANDS.values():
        assert request.LAYOUT.size == 64
        assert (request.LAYOUT.offset_of("req_id"), request.LAYOUT.offset_of("cmd")) == (0, 4)
    assert RequestHead.LAYOUT.size == 64


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(Command.SOCKET, marks=pytest.mark.spec("SOCKET-4")),
        pytest.param(Command.CONNECT, marks=[pytest.mark.spec("CONNECT-13"), pytest.mark.erratum("E-FIGPTR")]),
        pytest.param(Command.RELEASE, marks=pytest.mark.spec("RELEASE-6")),
        pytest.param(Command.BIND, marks=pytest.mark.spec("BIND-3")),
        pytest.param(Command.LISTEN, marks=pytest.mark.spec("LISTEN-2")),
        pytest.param(Command.ACCEPT, marks=pytest.mark.spec("ACCEPT-13")),
        pytest.param(Command.POLL, marks=pytest.mark.spec("POLL-4")),
    ],
)
def test_each_requests_members_lie_where_the_compiler_puts_them(command: Command, tmp_path: Path) -> None:
    request, _steps = COMMANDS[command]
    fields = own_fields(request)
    expressions = [f"offsetof(struct xen_pvcalls_request, u.{NAMES[command]}.{name})" for name, _ in fields]
    assert compile_and_run(tmp_path, expressions) == [offset for _, offset in fields]


@pytest.mark.parametrize("command", Command)
def test_a_request_survives_its_bytes(command: Command) -> None:
    request, _steps = COMMANDS[command]
    values = [
        bytes(range(28)) if f.format == "28s" else f.offset + 1 for f in request.LAYOUT.fields if not f.is_padding
    ]
    made = request(*values)  # type: ignore[call-arg]
    assert len(made.to_bytes()) == 64
    assert request.from_bytes(made.to_bytes()) == made


@pytest.mark.spec("RING-14")
@pytest.mark.erratum("E-RSPSIZE")
def test_the_response_is_the_compilers(tmp_path: Path) -> None:
    members = ["req_id", "cmd", "ret", "pad", "u"]
    expressions = ["sizeof(struct xen_pvcalls_response)"]
    expressions += [f"offsetof(struct xen_pvcalls_response, {m})" for m in members]
    expressions += [f"offsetof(struct xen_pvcalls_response, u.{name}.id)" for name in NAMES.values()]
    ours = Response.LAYOUT
    offsets = [ours.offset_of(m) for m in ("req_id", "cmd", "ret", "pad", "id")]
    assert compile_and_run(tmp_path, expressions) == [ours.size, *offsets, *[16] * 7]


@pytest.mark.spec("RING-9", "RING-15", "RING-17")
@pytest.mark.erratum("E-PADRSP")
@pytest.mark.security("SEC-B-5")
@given(UINT32, UINT32, UINT64, st.integers(-4095, 0))
def test_a_response_echoes_and_writes_every_byte(req_id: int, cmd: int, id: int, ret: int) -> None:
    answer = Response.to(RequestHead(req_id, cmd, id), ret)
    encoded = answer.to_bytes()
    assert len(encoded) == 24
    assert encoded[12:16] == bytes(4)
    assert Response.from_bytes(encoded) == Response(req_id, cmd, ret, id)


@pytest.mark.spec("RING-17")
def test_the_responses_padding_is_ignored_when_read() -> None:
    encoded = bytearray(Response(1, 2, -3, 4).to_bytes())
    encoded[12:16] = b"\xff" * 4
    assert Response.from_bytes(bytes(encoded)) == Response(1, 2, -3, 4)


@pytest.mark.security("SEC-F-4")
@pytest.mark.parametrize(("ret", "well_formed"), [(0, True), (-1, True), (-4095, True), (-4096, False), (1, False)])
def test_ret_is_zero_or_a_small_negative_number(ret: int, well_formed: bool) -> None:
    assert Response(0, 0, ret, 0).is_well_formed is well_formed


def test_a_response_prints_as_one_line_whatever_it_holds() -> None:
    assert str(Response(3, Command.CONNECT, -111, 0x10)) == "CONNECT req_id=3 id=0x10 ret=-111 (ECONNREFUSED)"
    assert str(Response(3, 99, -4000, 1)) == "command 99 req_id=3 id=0x1 ret=-4000 (error -4000)"
