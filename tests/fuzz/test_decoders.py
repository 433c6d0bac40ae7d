"""The decoders' corpora, and bytes at random. The long search, guided by coverage, is ``nox -s fuzz``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"


def load():
    spec = importlib.util.spec_from_file_location("fuzz_decoders", HERE / "decoders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


decoders = load()
NAMES = sorted(decoders.TARGETS)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_corpus_holds_breaks_nothing(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files
    for each in files:
        decoders.run(decoders.TARGETS[name], each.read_bytes())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_random_bytes_break_nothing(name: str, data: bytes) -> None:
    decoders.run(decoders.TARGETS[name], data)


@pytest.mark.security("SEC-B-7", "SEC-B-16")
@given(st.binary(min_size=300, max_size=2200), st.sampled_from([0, 1, 2, 9, 10, 31, 2**32 - 1]))
@settings(max_examples=60)
def test_descriptions_with_likely_orders(data: bytes, order: int) -> None:
    page = data[:128] + order.to_bytes(4, "little") + data[132:]
    decoders.run(decoders.TARGETS["ring_description"], page)
    decoders.run(decoders.TARGETS["address"], data[:28] + (order % 40).to_bytes(4, "little"))


@pytest.mark.security("SEC-B-17", "SEC-F-13")
@given(st.lists(st.from_regex(rb"[0-9 +\-_x\x00]{0,12}"), max_size=6))
def test_nodes_that_look_like_numbers(parts: list[bytes]) -> None:
    decoders.run(decoders.TARGETS["nodes"], b"\xff".join(parts))


def test_atheris_runs_a_target() -> None:
    pytest.importorskip("atheris", reason="package atheris (PyPI) is not installed")
    command = [sys.executable, str(HERE / "decoders.py"), "request", "-runs=200", "-seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 200 runs" in done.stderr
