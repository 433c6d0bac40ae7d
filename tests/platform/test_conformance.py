"""Every platform passes the same checks."""

from __future__ import annotations

import pytest

from refimpl.testing import CHECKS, Skipped


@pytest.fixture
def factory(simple_factory):
    with simple_factory() as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_platform_conforms(factory, check) -> None:
    try:
        check.run(factory)
    except Skipped as reason:
        pytest.skip(str(reason))
