"""The code against the document itself: headings, structures, definitions, error numbers, the C function."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from refimpl.commands.accept import AcceptRequest
from refimpl.commands.address_format import SOCKADDR, SOCKADDR_IN, AddressFamily, SocketType
from refimpl.commands.bind import BindRequest
from refimpl.commands.connect import ConnectRequest
from refimpl.commands.error_numbers import NOT_IN_THE_DOCUMENT, ErrorNumber
from refimpl.commands.listen import ListenRequest
from refimpl.commands.message import Command, Response
from refimpl.commands.poll import PollRequest
from refimpl.commands.release import ReleaseRequest
from refimpl.commands.socket import SocketRequest
from refimpl.data_ring.indexes_page import DATA_INTF
from refimpl.layout import Layout, Structure
from refimpl.speclink.catalogue import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def parse():
    """``parse(c_source)``: the structures, as dissect.cstruct reads them."""
    cstruct = pytest.importorskip("dissect.cstruct", reason="package dissect.cstruct is not installed").cstruct

    def parse(source: str):
        types = "typedef uint32_t grant_ref_t; typedef uint32_t PVCALLS_RING_IDX;\n"
        return cstruct(types + source)

    return parse


def test_headings_are_those_of_the_catalogue(headings):
    sections = load(ROOT).sections.values()
    assert [(h.level, h.title) for h in headings] == [(s.level, s.heading) for s in sections]


@pytest.mark.parametrize(
    ("request_type", "member"),
    [
        pytest.param(SocketRequest, "socket", marks=pytest.mark.spec("SOCKET-4")),
        pytest.param(ConnectRequest, "connect", marks=pytest.mark.spec("CONNECT-13")),
        pytest.param(ReleaseRequest, "release", marks=pytest.mark.spec("RELEASE-6")),
        pytest.param(BindRequest, "bind", marks=pytest.mark.spec("BIND-3")),
        pytest.param(ListenRequest, "listen", marks=pytest.mark.spec("LISTEN-2")),
        pytest.param(AcceptRequest, "accept", marks=pytest.mark.spec("ACCEPT-13")),
        pytest.param(PollRequest, "poll", marks=pytest.mark.spec("POLL-4")),
    ],
)
def test_requests_are_the_structures_the_document_prints(parse, source_of, request_type: type[Structure], member: str):
    printed = parse(source_of(r"^struct xen_pvcalls_request \{.*?^\};")).xen_pvcalls_request
    assert printed.size == request_type.LAYOUT.size
    inner = printed.fields["u"].type.fields[member].type
    assert offsets(inner, start=printed.fields["u"].offset) == own_members(request_type.LAYOUT)


def offsets(structure, start: int = 0) -> dict[str, int]:
    return {name: start + field.offset for name, field in structure.fields.items() if name != "pad"}


def own_members(layout: Layout) -> dict[str, int]:
    return {f.name: f.offset for f in layout.fields if f.name not in ("req_id", "cmd") and not f.is_padding}


@pytest.mark.spec("RING-14")
def test_response_is_the_structure_the_document_prints(parse, source_of):
    printed = parse(source_of(r"^struct xen_pvcalls_response \{.*?^\};")).xen_pvcalls_response
    assert printed.size == Response.LAYOUT.size
    assert [(n, f.offset) for n, f in printed.fields.items() if n != "u"] == [
        (f.name, f.offset) for f in Response.LAYOUT.fields if f.name != "id"
    ]
    assert printed.fields["u"].offset == Response.LAYOUT.offset_of("id")
    members = printed.fields["u"].type.fields
    assert set(members) == {command.name.lower() for command in Command} | {"dummy"}
    assert {member.type.size for member in members.values()} == {8}


@pytest.mark.spec("FAMILY-4", "FAMILY-5")
@pytest.mark.erratum("E-SOCKADDR")
def test_addresses_are_the_structures_the_document_prints(parse, source_of):
    source = source_of(r"^struct in_addr \{.*?^\};") + source_of(r"^struct sockaddr_in \{.*?^\};")
    printed = parse(source_of(r"^struct sockaddr \{.*?^\};") + source)
    assert printed.sockaddr.size == SOCKADDR.size == printed.sockaddr_in.size == SOCKADDR_IN.size == 28
    # Members are called by the names of their types, and sin_zero is 20 bytes where POSIX has 8.
    assert list(printed.sockaddr_in.fields) == ["sa_family_t", "sin_port", "sin_addr", "sin_zero"]
    assert [f.offset for f in printed.sockaddr_in.fields.values()] == [f.offset for f in SOCKADDR_IN.fields]


@pytest.mark.spec("RING-4")
@pytest.mark.erratum("E-CMD")
def test_command_numbers_are_the_definitions_and_not_those_of_the_sections(rows, headings):
    defined = dict(re.findall(r"#define PVCALLS_(\w+) (\d+)", "\n".join(rows("Commands Ring"))))
    assert {name: int(value) for name, value in defined.items()} == {c.name: c.value for c in Command}
    stale = {}
    for heading in headings:
        for sentence in heading.sentences:
            if sentence.text.startswith("cmd value: "):
                stale[heading.title.upper()] = int(sentence.text.rpartition(" ")[2])
    assert stale == {c.name: max(0, c.value - 1) for c in Command}


@pytest.mark.spec("FAMILY-3")
def test_families_and_types_are_the_definitions(rows):
    defined = re.findall(r"#define (\w+) (\d+)", "\n".join(rows("Socket families and address format")))
    ours = {**AddressFamily.__members__, **SocketType.__members__}
    assert {name: int(value) for name, value in defined} == {name: int(value) for name, value in ours.items()}


@pytest.mark.spec("ERRNO-1", "ERRNO-2", "ERRNO-3")
@pytest.mark.erratum("E-ENOTSUP", "E-ERRTABLE")
def test_error_numbers_are_the_table(rows):
    table = {name: int(number) for name, number in re.findall(r"\[(\w+)\] (-\d+)", "\n".join(rows("Error numbers")))}
    ours = {name: int(number) for name, number in ErrorNumber.__members__.items()}
    assert {name: ours[name] for name in ours if name not in NOT_IN_THE_DOCUMENT} == table
    assert (len(table), len(set(table.values()))) == (50, 48)
    assert not {"ECONNREFUSED", "ECONNRESET", "EPIPE", "ENETUNREACH"} & set(table)


@pytest.mark.spec("IDXPAGE-1")
@pytest.mark.erratum("E-OFFSET")
def test_drawing_of_the_indexes_page_disagrees_with_its_structure(headings):
    """The structure wins; the drawings show where the draft had it."""
    drawings = [
        s.text for h in headings if h.title == "Indexes Page Structure" for s in h.sentences if s.kind == "layout"
    ]
    assert drawings[1].startswith("76 80 84 88 4092 4096 ")
    assert (DATA_INTF.offset_of("ring_order"), DATA_INTF.offset_of("ref")) == (128, 132)
    (figure,) = [
        s.text for h in headings if h.title == "Indexes Page and Data ring" for s in h.sentences if s.kind == "layout"
    ]
    assert "@76: ring_order = 1" in figure and "@80: ref[0]" in figure


@pytest.mark.erratum("E-FIGPTR", "E-ARRAYS")
def test_figure_of_the_rings_has_offsets_of_its_own(headings):
    (figure,) = [
        s.text for h in headings if h.title == "Indexes Page and Data ring" for s in h.sentences if s.kind == "layout"
    ]
    assert "@44: ref" in figure
    assert ConnectRequest.LAYOUT.offset_of("ref") == 44 + 8
    assert "@0->4098: in" in figure and "@4099->8196: out" in figure


@pytest.mark.erratum("E-INTFNAME")
def test_indexes_page_has_two_names(headings):
    text = " ".join(s.text for h in headings for s in h.sentences)
    assert text.count("struct pvcalls_ring_intf") == 1
    assert text.count("struct pvcalls_data_intf") > 5
    assert DATA_INTF.name == "pvcalls_data_intf"


@pytest.mark.spec("WORKFLOW-2")
def test_unconsumed_bytes_are_what_the_documents_function_says(source_of, tmp_path):
    """The function as it is printed, compiled, against a plain difference modulo 2**32."""
    import shutil

    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("package gcc is not installed")
    size, cases = 4096, []
    for cons in (0, 1, 4095, 4096, 2**31, 2**32 - 4096, 2**32 - 1):
        cases += [((cons + used) % 2**32, cons, used) for used in (0, 1, 4095, 4096)]
    calls = "".join(f'printf("%u\\n", pvcalls_ring_unconsumed({p}u, {c}u, {size}u));' for p, c, _ in cases)
    function = source_of(r"^#define _MASK_PVCALLS_IDX.*?^\}")
    program = tmp_path / "program.c"
    head = "#include <stdio.h>\n#include <stdint.h>\ntypedef uint32_t PVCALLS_RING_IDX;\n"
    program.write_text(head + function + f"\nint main(void) {{ {calls} return 0; }}\n")
    subprocess.run([compiler, "-o", tmp_path / "program", program], check=True, capture_output=True)
    printed = subprocess.run([tmp_path / "program"], check=True, capture_output=True, text=True).stdout
    assert [int(line) for line in printed.split()] == [(p - c) % 2**32 for p, c, _ in cases]
    assert [used for *_, used in cases] == [(p - c) % 2**32 for p, c, _ in cases]


def test_document_is_restated_and_not_copied(headings):
    """No nine words of its sentences stand in a row in what this project says of them."""
    ours = {}
    for path in [*ROOT.glob("spec/*.toml"), *ROOT.glob("spec/requirements/*.toml"), *ROOT.rglob("refimpl/**/*.py")]:
        words = re.findall(r"[a-z0-9_]+", path.read_text(encoding="utf-8").lower())
        ours.update({tuple(words[i : i + 9]): path.name for i in range(len(words) - 8)})
    copied = []
    for heading in headings:
        for sentence in heading.sentences:
            if sentence.kind in ("sentence", "item"):
                words = re.findall(r"[a-z0-9_]+", sentence.text.lower())
                copied += [
                    (heading.title, " ".join(run))
                    for i in range(len(words) - 8)
                    if (run := tuple(words[i : i + 9])) in ours
                ]
    assert copied == []
