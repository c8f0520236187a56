"""Fixtures for all tests; which tests need a stack, and which run in one process under pytest-xdist."""

from __future__ import annotations

import os
from itertools import chain, zip_longest
from pathlib import Path

import pytest

from tests.helpers import SHARED
from worker.local.plugin_folder import NAME, assemble, download

ROOT = Path(__file__).parent
STACK_ROOMS = ("end_to_end", "docker")
STACK_FIXTURES = {"redis_url", "wheels", "plugin_folder"}
"""Tests in these folders, or with one of these fixtures, start programs of the service or download: marked `stack`."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a stack, and group and order all for pytest-xdist (`--dist loadgroup`)."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        if _room(item) in STACK_ROOMS or STACK_FIXTURES & _fixtures(item):
            item.add_marker("stack")
        name = _group(item)
        item.add_marker(pytest.mark.xdist_group(name))
        groups.setdefault(name, []).append(item)
    # The longest first. Tests with a stack wait, the others compute: taken in turn, one of each runs at a time.
    ordered = sorted(groups.values(), key=_slow_tests, reverse=True)
    waiting = [group for group in ordered if group[0].get_closest_marker("stack")]
    computing = [group for group in ordered if not group[0].get_closest_marker("stack")]
    items[:] = chain.from_iterable(chain.from_iterable(zip_longest(waiting, computing, fillvalue=[])))


def _room(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT).parts[0]


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


def _group(item: pytest.Item) -> str:
    """Tests of one group run in one process: those that share an expensive fixture, and those of one file.

    A test with a stack of its own is a group of its own.
    """
    if {"wheels", "plugin_folder"} & _fixtures(item):
        return "plugin_folder"
    if _room(item) == "end_to_end":
        return "site" if "site" in _fixtures(item) else item.name
    return item.path.stem


def _slow_tests(group: list[pytest.Item]) -> tuple[int, int]:
    return sum(item.get_closest_marker("slow") is not None for item in group), len(group)


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

    for name in [name for name in os.environ if name.startswith("DICOM_ROUTER_")]:
        monkeypatch.delenv(name)
    get_settings.cache_clear()
