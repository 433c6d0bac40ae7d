"""Paths of a device, as libxl writes them."""

from __future__ import annotations

import pytest

from refimpl.xenstore import paths


@pytest.mark.spec("XS-1", "XS-3")
def test_both_ends_directories_name_the_device_type() -> None:
    assert paths.frontend_path(5) == "/local/domain/5/device/pvcalls/0"
    assert paths.backend_path(0, 5) == "/local/domain/0/backend/pvcalls/5/0"
    assert paths.backend_root(3) == "/local/domain/3/backend/pvcalls"


def test_errors_are_said_below_each_ends_own_directory() -> None:
    assert paths.frontend_error_path(5, 1) == "/local/domain/5/error/device/pvcalls/1/error"
    assert paths.backend_error_path(0, 5, 1) == "/local/domain/0/error/backend/pvcalls/5/1/error"
