"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers import SHARED


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of images that cannot be published; a stranger's run skips, CI must have them."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail("CI must have the shared images")
        pytest.skip("needs images that cannot be published with the project")
    return SHARED


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own DICOM_ROUTER_ variables must not reach a test."""
    from worker.settings import get_settings

    for name in [one for one in os.environ if one.startswith("DICOM_ROUTER_")]:
        monkeypatch.delenv(name)
    get_settings.cache_clear()
