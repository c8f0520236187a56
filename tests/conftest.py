"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers import SHARED
from worker.local.plugin_folder import NAME, assemble, download


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of images that cannot be published; a stranger's run skips, CI must have them."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail("CI must have the shared images")
        pytest.skip("needs images that cannot be published with the project")
    return SHARED


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The plugin's wheels, from the package index."""
    return download(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def plugin_folder(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make plugin` assembles."""
    folder = tmp_path_factory.mktemp("plugin") / NAME
    assemble(folder, wheels)
    return folder


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own DICOM_ROUTER_ variables must not reach a test."""
    from worker.settings import get_settings

    for name in [one for one in os.environ if one.startswith("DICOM_ROUTER_")]:
        monkeypatch.delenv(name)
    get_settings.cache_clear()
