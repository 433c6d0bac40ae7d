"""Loads this folder's own modules, and gives the factory of the simple platform."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def load(name: str):
    """Import a module of this folder, which is no package."""
    full_name = f"conformance_tests_{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, Path(__file__).parent / f"{name}.py")
        sys.modules[full_name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full_name]


@pytest.fixture
def simple_factory():
    """Make factories of the simple platform: ``simple_factory(sabotage, patience=30.0)``."""

    def make(**options):
        return load("simple_factory").SimpleFactory(
            load("simple_platform").Machine, load("simple_store").Nodes, **options
        )

    return make
