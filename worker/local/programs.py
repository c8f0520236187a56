"""Where the programs come from: the system, or a private Debian tree.

The tree is only unpacked, never entered: its programs run through its own
dynamic loader, as the user who calls them, on the files of the machine.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from worker.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tree:
    """A private tree: a suite of Debian and the packages that are unpacked from it, with options for apt."""

    suite: str
    packages: tuple[str, ...]
    options: tuple[str, ...] = ()


DEBIAN_13 = Tree("trixie", ("orthanc", "orthanc-python", "redis-server", "dcmtk"))
DEBIAN_FORKY = Tree(
    "forky",
    ("orthanc", "orthanc-python"),
    # The lists of a suite in development expire within days, and a mirror may keep an older copy.
    ('Acquire::Check-Valid-Until "false"',),
)
"""For the tests: an Orthanc of another generation, with another Python."""

LEAST_ORTHANC = (1, 12, 5)
PLUGIN_FOLDERS = (Path("/usr/share/orthanc/plugins"), Path("/usr/local/share/orthanc/plugins"))


@dataclass(frozen=True)
class Program:
    """How to call a program: `command` followed by its arguments, with `env` added to the environment."""

    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    origin: str = "system"


@dataclass(frozen=True)
class OrthancProgram(Program):
    """Orthanc and the library of its Python plugin."""

    python_plugin: Path = Path()


def cache_folder() -> Path:
    """Where the private tree is kept between runs and checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dicom-imaging-router"


def find_orthanc() -> OrthancProgram:
    """The system's Orthanc where it is 1.12.5 or later with the Python plugin, else the private one.

    Raises ConfigError where neither can be had.
    """
    path = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    plugin = next((p for f in PLUGIN_FOLDERS if (p := f / "libOrthancPython.so").is_file()), None)
    if path and plugin and _version(path) >= LEAST_ORTHANC:
        return OrthancProgram([path], python_plugin=plugin)
    return private_orthanc(DEBIAN_13)


def private_orthanc(tree: Tree) -> OrthancProgram:
    """The Orthanc of a private tree. Raises ConfigError."""
    root = private_root(tree)
    inner = _from_root(root, "usr/sbin/Orthanc")
    env = {**inner.env, "PYTHONHOME": str(root / "usr"), "PYTHONDONTWRITEBYTECODE": "1"}
    return OrthancProgram(inner.command, env, "private", root / "usr/share/orthanc/plugins/libOrthancPython.so")


def find_program(name: str) -> Program:
    """A program such as redis-server or storescu. Raises ConfigError."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return Program([path]) if path else _from_root(private_root(DEBIAN_13), f"usr/bin/{name}")


def private_root(tree: Tree) -> Path:
    """The unpacked Debian tree; made on the first call. Raises ConfigError."""
    root = cache_folder() / f"{tree.suite}-{'-'.join(tree.packages)}"
    if root.is_dir():
        return root
    if not shutil.which("mmdebstrap"):
        raise ConfigError(
            "the program mmdebstrap is missing", "install it (apt-get install mmdebstrap), or install Orthanc >= 1.12.5"
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(f"{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits for the first one's tree
        if not root.is_dir():
            log.info(
                "unpacking a private Debian %s with %s (once, into %s)", tree.suite, ", ".join(tree.packages), root
            )
            _unpack(tree, root)
    return root


def _unpack(tree: Tree, root: Path) -> None:
    """Make the tree beside `root`, and rename it when it is complete. Raises ConfigError."""
    fresh = root.with_name(f"{root.name}.{os.getpid()}")
    command = ["mmdebstrap", "--variant=extract", f"--include={','.join(tree.packages)}"]
    command += [*(f"--aptopt={option}" for option in tree.options), tree.suite, str(fresh)]
    if os.geteuid() != 0:
        command = ["sudo", *command]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise ConfigError(
            f"mmdebstrap could not unpack Debian {tree.suite} ({last[0]})", "check that the package mirror answers"
        )
    fresh.rename(root)


def _from_root(root: Path, inside: str) -> Program:
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = libraries / "ld-linux-x86-64.so.2"
    env = {"DCMDICTPATH": str(root / "usr/share/dcmtk/dicom.dic")}
    return Program([str(loader), "--library-path", str(libraries), str(root / inside)], env, "private")


def _version(path: str) -> tuple[int, ...]:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30)
    found = re.search(r"Orthanc (\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(int(part) for part in found.groups()) if found else ()
