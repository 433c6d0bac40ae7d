"""What the backend's process gives up at its start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refimpl.backend import Policy, Rule
from refimpl.cli.privileges import may_bind_low_ports
from refimpl.cli.processes import Child

CAP_NET_BIND_SERVICE = 10


def capabilities(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:")), 16)


def has_low_ports(pid: int, name: str) -> bool:
    return bool(capabilities(pid, name) >> CAP_NET_BIND_SERVICE & 1)


@pytest.mark.security("SEC-B-21")
@pytest.mark.skipif(not has_low_ports(os.getpid(), "CapPrm"), reason="this process may bind no low ports itself")
@pytest.mark.parametrize(
    ("options", "keeps"),
    [
        ((), False),
        (("--allow", "connect:127.0.0.1:80"), False),
        (("--allow", "bind:any:80"), True),
        (("--allow-everything",), True),
    ],
)
def test_a_backend_may_bind_low_ports_only_where_its_policy_lets_guests(directory: str, options, keeps: bool) -> None:
    run = ("--run", directory)
    with (
        Child("store", *run, waits_until_ready=True),
        Child("backend", *run, *options, waits_until_ready=True) as backend,
    ):
        for name in ("CapEff", "CapPrm", "CapBnd"):
            assert has_low_ports(backend.process.pid, name) is keeps, name


@pytest.mark.security("SEC-B-21")
@pytest.mark.parametrize(
    ("rule", "allow", "may"),
    [
        ("bind:any:80", True, True),
        ("bind:any:1000-2000", True, True),
        ("127.0.0.0/8", True, True),
        ("bind", True, True),
        ("bind:any:1024-65535", True, False),
        ("bind:any:0", True, False),
        ("connect:any:80", True, False),
        ("bind:any:80", False, False),
    ],
)
def test_what_lets_a_guest_bind_low_ports(rule: str, allow: bool, may: bool) -> None:
    assert may_bind_low_ports(Policy([Rule.parse(rule, allow=allow)])) is may
