"""The arrows between rooms, and the sizes of files and folders: docs/architecture.md."""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
FOLDERS = ("orthanc_plugin", "worker", "train", "tests", "docs", "benchmarks")
MOST_LINES, MOST_MODULES = 400, 16

BESIDE_THE_STANDARD_LIBRARY = {"celery", "kombu", "redis", "orthanc"}
"""What the plugin finds inside Orthanc: its own folder `lib`, and the module of Orthanc's Python plugin."""


def python_files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_imports_follow_the_arrows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(str(ROOT / "pyproject.toml"), no_cache=True) == 0, "see the captured output"


def test_the_plugin_needs_only_what_lies_in_its_folder() -> None:
    graph = grimp.build_graph("orthanc_plugin", "worker", include_external_packages=True, cache_dir=None)
    ours = {module for module in graph.modules if module.startswith("orthanc_plugin")} | {"worker", "worker.contract"}
    imported = {name for module in ours for name in graph.find_modules_directly_imported_by(module)} - ours
    top = {name.split(".")[0] for name in imported}
    assert top - set(sys.stdlib_module_names) <= BESIDE_THE_STANDARD_LIBRARY


def test_architecture_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = {
        f"{container}.{room}"
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
        for container in contract["containers"]
        for layer in contract["layers"]
        for room in layer.strip("()").split(" | ")
        if not room.startswith("__") and not layer.startswith("(")
    }
    assert len(layers) > 15
    assert sorted(room for room in layers if f"`{room}`" not in text) == []


def test_no_file_is_longer_than_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_no_folder_holds_more_than_16_modules() -> None:
    modules = Counter(str(path.parent.relative_to(ROOT)) for path in python_files() if path.name != "__init__.py")
    assert {folder: number for folder, number in modules.items() if number > MOST_MODULES} == {}
