"""The device nodes' requests against Linux's own headers, as the C compiler sees them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from refimpl.layout import Layout
from refimpl.xen import ioctls

HEADERS = Path("/usr/include/xen")

NUMBERS = {
    "GNTALLOC_ALLOC_GREF": "IOCTL_GNTALLOC_ALLOC_GREF",
    "GNTALLOC_DEALLOC_GREF": "IOCTL_GNTALLOC_DEALLOC_GREF",
    "GNTALLOC_FLAG_WRITABLE": "GNTALLOC_FLAG_WRITABLE",
    "GNTDEV_MAP_GRANT_REF": "IOCTL_GNTDEV_MAP_GRANT_REF",
    "GNTDEV_UNMAP_GRANT_REF": "IOCTL_GNTDEV_UNMAP_GRANT_REF",
    "SET_UNMAP_NOTIFY": "IOCTL_GNTDEV_SET_UNMAP_NOTIFY",
    "UNMAP_NOTIFY_CLEAR_BYTE": "UNMAP_NOTIFY_CLEAR_BYTE",
    "UNMAP_NOTIFY_SEND_EVENT": "UNMAP_NOTIFY_SEND_EVENT",
    "EVTCHN_BIND_INTERDOMAIN": "IOCTL_EVTCHN_BIND_INTERDOMAIN",
    "EVTCHN_BIND_UNBOUND_PORT": "IOCTL_EVTCHN_BIND_UNBOUND_PORT",
    "EVTCHN_UNBIND": "IOCTL_EVTCHN_UNBIND",
    "EVTCHN_NOTIFY": "IOCTL_EVTCHN_NOTIFY",
    "EVTCHN_RESET": "IOCTL_EVTCHN_RESET",
    "EVTCHN_RESTRICT_DOMID": "IOCTL_EVTCHN_RESTRICT_DOMID",
}
LAYOUTS = [value for value in vars(ioctls).values() if isinstance(value, Layout)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What a C program says about each number, size and offset."""
    compiler = shutil.which("cc")
    if compiler is None or not all((HEADERS / f"{name}.h").exists() for name in ("gntalloc", "gntdev", "evtchn")):
        pytest.skip("needs a C compiler and Linux's headers (packages gcc, linux-libc-dev)")
    lines = [f'P("{ours}", {theirs});' for ours, theirs in NUMBERS.items()]
    for layout in LAYOUTS:
        lines.append(f'P("{layout.name}", sizeof(struct {layout.name}));')
        lines += [
            f'P("{layout.name}.{field.name}", offsetof(struct {layout.name}, {field.name}));' for field in layout.fields
        ]
    folder = tmp_path_factory.mktemp("ioctls")
    source = folder / "ask.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <stdint.h>\n"
        "#include <linux/types.h>\n#include <sys/ioctl.h>\n"
        "typedef uint16_t domid_t;\ntypedef uint32_t grant_ref_t;\n"
        "#include <xen/gntalloc.h>\n#include <xen/gntdev.h>\n#include <xen/evtchn.h>\n"
        '#define P(name, value) printf("%s %lu\\n", name, (unsigned long)(value))\n'
        "int main(void) {" + "\n".join(lines) + " return 0; }\n"
    )
    subprocess.run([compiler, "-o", folder / "ask", source], check=True)
    answers = subprocess.check_output([folder / "ask"], text=True)
    return {name: int(value) for name, _, value in (line.partition(" ") for line in answers.splitlines())}


def test_numbers(compiled: dict[str, int]) -> None:
    assert {name: getattr(ioctls, name) for name in NUMBERS} == {name: compiled[name] for name in NUMBERS}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_layouts(layout: Layout, compiled: dict[str, int]) -> None:
    assert layout.size == compiled[layout.name]
    for field in layout.fields:
        assert field.offset == compiled[f"{layout.name}.{field.name}"]
