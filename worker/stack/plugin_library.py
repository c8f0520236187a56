"""celery and redis for Orthanc's Python, from the packages that are installed here.

All of them are pure Python, so those of this environment serve Orthanc's
Python too, whatever its version; nothing else of this environment may be seen
there (compiled packages would not load).
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = "celery[redis]"


def link_library(folder: Path) -> None:
    """Fill a folder with links to celery, redis and all that they need."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _closure(ROOT):
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            target = Path(str(distribution(name).locate_file(top)))
            link = folder / top
            if link.is_symlink() and link.readlink() != target:
                link.unlink()
            if not link.is_symlink():
                link.symlink_to(target)


def _closure(root: str) -> set[str]:
    """Names of the installed packages that a requirement needs, its own included."""
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
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in extras):
                waiting.append(requirement)
    return found
