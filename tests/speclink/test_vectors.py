"""The vectors: up to date, explained, and what a C compiler makes of Xen's own header."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from refimpl.speclink import vectors

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / vectors.FOLDER


def load(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def whole(page: dict[str, Any]) -> bytes:
    """Put a page together from its runs."""
    raw = bytearray(page["size"])
    for run in page["not_zero"]:
        data = bytes.fromhex(run["hex"])
        raw[run["at"] : run["at"] + len(data)] = data
    return bytes(raw)


def test_checked_in_vectors_are_what_the_code_makes():
    assert vectors.check(ROOT) == []


def test_readme_names_every_file():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+\.json)`", readme, re.MULTILINE))
    assert named == {file.name for file in FOLDER.glob("*.json")}


def test_stale_missing_and_stray_files_are_found(tmp_path):
    assert len(vectors.write(tmp_path)) == len(list(vectors.texts()))
    assert vectors.write(tmp_path) == []
    folder = tmp_path / vectors.FOLDER
    (folder / "steps.json").unlink()
    (folder / "states.json").write_text("{}")
    (folder / "other.json").write_text("{}")
    assert sorted(str(f) for f in vectors.check(tmp_path)) == [
        "spec/vectors/other.json: is made by nothing",
        "spec/vectors/states.json: is stale: refimpl spec vectors --write",
        "spec/vectors/steps.json: is missing: refimpl spec vectors --write",
    ]


def test_numbers_are_within_what_json_readers_keep():
    def numbers(value: Any):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for part in value:
                yield from numbers(part)
        elif isinstance(value, int):
            yield value

    for file in FOLDER.glob("*.json"):
        assert all(abs(number) < 2**53 for number in numbers(json.loads(file.read_text())))


SHOW = """
static void show(const void *at, int count) {
    for (int i = 0; i < count; i++) printf("%02x", ((const unsigned char *)at)[i]);
    printf("\\n");
}
"""


def test_requests_are_the_c_structures(c_program):
    requests = load("requests")["requests"]
    code = []
    for request in requests:
        member = request["command"].lower()
        code.append("{ struct xen_pvcalls_request r; memset(&r, 0, sizeof r);")
        for name, value in request["fields"].items():
            place = f"r.{name}" if name in ("req_id", "cmd") else f"r.u.{member}.{name}"
            if name == "addr":
                octets = ",".join(str(b) for b in bytes.fromhex(value))
                code.append(f"memcpy({place}, (uint8_t[]){{{octets}}}, sizeof {place});")
            else:
                code.append(f"{place} = {value}ULL;")
        code.append("show(&r, sizeof r); }")
    run = c_program(SHOW + "int main(void) {" + "\n".join(code) + "return 0; }")
    assert run().split() == [request["hex"] for request in requests]
    assert {request["command"] for request in requests} == set(load("requests")["commands"])


def test_responses_are_the_c_structures(c_program):
    responses = load("responses")["responses"]
    code = []
    for response in responses:
        fields = response["fields"]
        code.append("{ struct xen_pvcalls_response r; memset(&r, 0, sizeof r);")
        code += [f"r.{name} = {fields[name]};" for name in ("req_id", "cmd", "ret")]
        code.append(f"r.u.socket.id = {fields['id']}ULL; show(&r, sizeof r); }}")
    run = c_program(SHOW + "int main(void) {" + "\n".join(code) + "return 0; }")
    assert run().split() == [response["hex"] for response in responses]


# One request there and its response back, by ring.h's own macros, from a start index.
RING = """
static char page[4096] __attribute__((aligned(4096)));
static void go(unsigned start) {
    struct xen_pvcalls_sring *s = (void *)page;
    struct xen_pvcalls_front_ring f;
    struct xen_pvcalls_back_ring b;
    struct xen_pvcalls_request r;
    int notify, more;
    memset(page, 0, sizeof page);
    SHARED_RING_INIT(s);
    FRONT_RING_INIT(&f, s, 4096);
    BACK_RING_INIT(&b, s, 4096);
    if (start) {
        s->req_prod = s->rsp_prod = start;
        s->req_event = s->rsp_event = start + 1;
        f.req_prod_pvt = f.rsp_cons = b.rsp_prod_pvt = b.req_cons = start;
    }
    show(page, 4096);
    memset(&r, 0, sizeof r);
    r.req_id = 0; r.cmd = PVCALLS_SOCKET; r.u.socket.id = 1; r.u.socket.domain = 2; r.u.socket.type = 1;
    *RING_GET_REQUEST(&f, f.req_prod_pvt) = r;
    f.req_prod_pvt++;
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&f, notify);
    show(page, 4096); printf("%d\\n", notify);
    RING_COPY_REQUEST(&b, b.req_cons, &r);
    b.req_cons++;
    RING_FINAL_CHECK_FOR_REQUESTS(&b, more);
    show(page, 4096);
    struct xen_pvcalls_response *p = RING_GET_RESPONSE(&b, b.rsp_prod_pvt);
    p->req_id = r.req_id; p->cmd = r.cmd; p->ret = 0; p->pad = 0; p->u.socket.id = r.u.socket.id;
    b.rsp_prod_pvt++;
    RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&b, notify);
    show(page, 4096); printf("%d\\n", notify);
}
int main(void) { go(0); go(0xffffffffu); return 0; }
"""


def test_ring_pages_are_those_of_the_c_macros(c_program):
    expected = []
    for state in load("commands_ring")["pages"]:
        expected.append(whole(state["page"]).hex())
        if "notify" in state:
            expected.append(str(int(state["notify"])))
    assert c_program(SHOW + RING)().split() == expected


def test_when_an_event_is_needed_is_what_ring_h_says(c_values):
    events = load("commands_ring")["events"]
    formula = "(RING_IDX)((RING_IDX){new}u - (RING_IDX){event}u) < (RING_IDX)((RING_IDX){new}u - (RING_IDX){old}u)"
    found = c_values([formula.format(**event) for event in events])
    assert found == [int(event["notify"]) for event in events]
    assert {event["notify"] for event in events} == {True, False}


def test_indexes_pages_are_the_c_structure(c_values):
    content = load("indexes_pages")
    offsets = content["draft_offsets"]["published"]
    assert c_values([f"offsetof(struct pvcalls_data_intf, {name})" for name in offsets]) == list(offsets.values())
    for described in content["pages"]:
        count = 1 << described["ring_order"]
        refs = range(described["first_ref"], described["first_ref"] + count)
        raw = bytearray(4096)
        struct.pack_into(f"<{count + 1}I", raw, offsets["ring_order"], described["ring_order"], *refs)
        assert whole(described["page"]) == bytes(raw)


def test_index_arithmetic_is_that_of_the_c_macros(c_values):
    """pvcalls_queued is the header's own word for what the document calls unconsumed."""
    cases = load("index_arithmetic")["cases"]
    found = c_values([f"pvcalls_queued({c['prod']}u, {c['cons']}u, {c['size']}u)" for c in cases])
    assert found == [c["unconsumed"] for c in cases]
    for case in cases:
        assert sum(piece["length"] for piece in case["readable"]) == case["unconsumed"]
        assert sum(piece["length"] for piece in case["writable"]) == case["size"] - case["unconsumed"]
        for pieces, start in ((case["readable"], case["cons"]), (case["writable"], case["prod"])):
            assert not pieces or pieces[0]["offset"] == start % case["size"]
            assert all(piece["offset"] + piece["length"] <= case["size"] for piece in pieces)


def test_data_ring_runs_balance():
    for run in load("data_ring")["runs"]:
        last = run["actions"][-1]["indexes"]
        assert last["in_cons"] == last["in_prod"]
        assert last["out_cons"] == last["out_prod"]
        produced = sum(a["bytes"] for a in run["actions"] if a["what"] == "produce out")
        assert (last["out_prod"] - run["start_index"]) % 2**32 == produced


@pytest.mark.parametrize("end", ["frontend", "backend"])
def test_traces_follow_the_tables(end):
    content = load("states")
    rows = {(row["own"], row["peer"]): row["actions"] for row in content[end]}
    other = "backend" if end == "frontend" else "frontend"
    for found in content["traces"]:
        last = found["trace"][-1]
        assert (last[end], last[other]) not in rows, "nothing is left to do at the end of a trace"
