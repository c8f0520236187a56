"""The folder that `make plugin` assembles."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

from worker.local.plugin_folder import NAME, SCRIPT, assemble, link, pack


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_holds_the_plugin_and_of_the_worker_the_contract_alone(plugin_folder: Path) -> None:
    assert (plugin_folder / SCRIPT).is_file()
    assert {path.name for path in plugin_folder.iterdir()} == {"README.md", "orthanc_plugin", "worker", "lib"}
    assert {path.name for path in (plugin_folder / "worker").iterdir()} == {"__init__.py", "contract.py", "LICENSE"}


def test_it_is_pure_python(plugin_folder: Path) -> None:
    wheels = list(plugin_folder.glob("lib/*.dist-info/WHEEL"))
    assert len(wheels) > 10
    assert all("Root-Is-Purelib: true" in path.read_text() for path in wheels)
    assert {path for path in files(plugin_folder) if path.endswith((".so", ".pyd", ".dll", ".pyc"))} == set()


def test_everything_in_it_has_its_licence(plugin_folder: Path) -> None:
    for folder in (*plugin_folder.glob("lib/*.dist-info"), plugin_folder / "orthanc_plugin", plugin_folder / "worker"):
        assert [path for path in folder.rglob("*") if path.name.upper().startswith(("LICEN", "COPYING"))], folder.name
    assert "GNU AFFERO" in (plugin_folder / "orthanc_plugin" / "LICENSE").read_text()


def test_nothing_of_this_machine_is_in_it(wheels: list[Path], plugin_folder: Path) -> None:
    """Each file is, byte by byte, one of a wheel or of the repository."""
    root = Path(__file__).parents[3]
    elsewhere = {"README.md": "orthanc_plugin/README.md", "worker/LICENSE": "LICENSE"}
    packed: dict[str, bytes] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            packed.update({f"lib/{name}": archive.read(name) for name in archive.namelist()})
    for name, content in files(plugin_folder).items():
        assert content == (packed[name] if name in packed else (root / elsewhere.get(name, name)).read_bytes()), name


def test_the_same_bytes_twice_and_readable_by_everyone(wheels: list[Path], plugin_folder: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assemble(tmp_path / "again", wheels)
    finally:
        os.umask(before)
    assert files(tmp_path / "again") == files(plugin_folder)
    assert pack(tmp_path / "again") == pack(plugin_folder)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "again").rglob("*")}
    assert modes == {0o644, 0o755}


def test_the_archive_unpacks_to_the_folder(plugin_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "one.tar.gz").write_bytes(pack(plugin_folder))
    subprocess.run(["tar", "-xzf", tmp_path / "one.tar.gz", "-C", tmp_path], check=True)
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        assert {member.uid for member in archive.getmembers()} == {0}
    assert files(tmp_path / NAME) == files(plugin_folder)


def test_the_folder_of_links_holds_what_the_assembled_one_holds(plugin_folder: Path, tmp_path: Path) -> None:
    link(tmp_path)
    link(tmp_path)  # again: nothing to do
    assert (tmp_path / SCRIPT).is_file()

    def modules(folder: Path) -> set[str]:
        return {path.name for path in (folder / "lib").iterdir() if not path.name.endswith((".dist-info", ".pyi"))}

    # Needed by Pythons before 3.11.3 only.
    assert modules(tmp_path) | {"async_timeout"} == modules(plugin_folder) | {"async_timeout"}
