"""The folder that Orthanc loads: our plugin, the contract, and `lib` with celery and redis.

For the local stack it is linked to what is installed here (`link`); for an
existing Orthanc it is copied, with wheels from the lock file (`assemble`):

    python -m worker.local.plugin_folder build

Orthanc's Python is of any version, so `lib` holds pure Python only, and
nothing else of this environment may be seen there.
"""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import worker

NAME = "orthanc-body-part-router"
SCRIPT = "orthanc_plugin/body_part_router.py"
"""Within the folder: what Orthanc's setting `PythonScript` names."""

PYTHON = "3.14"
"""The newest Python that an Orthanc carries; each wheel must allow it."""

_SOURCE = Path(worker.__file__).parents[1]
_LIBRARY = "celery[redis]"
_TIME = 315_532_800  # 1980-01-01, the earliest time that every archive format knows


def link(folder: Path) -> None:
    """Make the folder of links to what is installed here: made at once, and edits are seen."""
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    links = {name: _SOURCE / name for name in ("orthanc_plugin", "worker")}
    for name in _closure(_LIBRARY):
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            links[f"lib/{top}"] = Path(str(distribution(name).locate_file(top)))
    for name, target in links.items():
        link = folder / name
        if link.is_symlink() and link.readlink() != target:
            link.unlink()
        if not link.is_symlink():
            link.symlink_to(target)


def download(wheels: Path) -> list[Path]:
    """The wheels of requirements/plugin.txt, checked against its hashes; pure Python, whatever runs here."""
    pure = "--only-binary :all: --implementation py --abi none --platform any"
    options = f"-qq --disable-pip-version-check --no-deps --require-hashes {pure} --python-version {PYTHON}"
    lock = _SOURCE / "requirements" / "plugin.txt"
    command = [sys.executable, "-m", "pip", "download", *options.split(), "--dest", str(wheels), "-r", str(lock)]
    subprocess.run(command, check=True)
    return sorted(wheels.glob("*.whl"))


def assemble(folder: Path, wheels: Iterable[Path]) -> None:
    """Make the folder anew from a checkout and unpacked wheels; the same input makes the same bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "lib")
    plugin = _SOURCE / "orthanc_plugin"
    sources = {f"orthanc_plugin/{path.name}": path for path in plugin.glob("*.py")}
    sources["orthanc_plugin/LICENSE"] = plugin / "LICENSE"
    sources["README.md"] = plugin / "README.md"
    for name in ("__init__.py", "contract.py"):
        sources[f"worker/{name}"] = _SOURCE / "worker" / name
    sources["worker/LICENSE"] = _SOURCE / "LICENSE"
    for name, source in sources.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source, folder / name)
    for path in folder.rglob("*"):
        # Orthanc runs as another user than the one who copies.
        path.chmod(0o755 if path.is_dir() else 0o644)


def pack(folder: Path) -> bytes:
    """The folder as a .tar.gz; the same folder makes the same bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=_TIME) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            entry = tarfile.TarInfo(f"{NAME}/{path.relative_to(folder).as_posix()}")
            entry.size, entry.mtime, entry.mode = path.stat().st_size, _TIME, 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)
    return packed.getvalue()


def _closure(root: str) -> set[str]:
    """Names of the installed packages that a requirement needs, its own included."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = [Requirement(root)]
    asked: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in asked:
            continue
        asked.add(str(wanted))
        try:
            requires = distribution(wanted.name).requires or []
        except PackageNotFoundError:  # needed on other systems only
            continue
        found.add(wanted.name)
        for requirement in map(Requirement, requires):
            extras = wanted.extras | {""}
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(requirement)
    return found


def main(where: Path) -> None:
    """Assemble the folder, and an archive of it beside it."""
    folder, archive = where / NAME, where / f"{NAME}-{worker.__version__}.tar.gz"
    with tempfile.TemporaryDirectory() as wheels:
        assemble(folder, download(Path(wheels)))
    archive.write_bytes(pack(folder))
    print(f"{folder}/  mount or copy this; PythonScript is {SCRIPT} in it\n{archive}  the same in one file")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
