"""The set-up refuses, in one sentence, where it cannot work."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import HUNG

ROOT = Path(__file__).parents[1]
TOOLS = ("sh", "cat", "sha256sum", "cut", "tr", "test", "echo")


def run(tmp_path: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up with a PATH that holds these scripts and little else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name) or "/nowhere")
    for name, text in programs.items():
        (folder / name.replace("_", "-")).write_text(f"#!{shutil.which('sh')}\n{text}\n")
        (folder / name.replace("_", "-")).chmod(0o755)
    return subprocess.run(
        ["sh", "requirements/setup", str(tmp_path / "env"), "requirements/plugin.txt"],
        env={"PATH": str(folder)}, cwd=ROOT, capture_output=True, text=True, timeout=HUNG,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({"uname": "echo Darwin arm64"}, "on amd64; this is Darwin arm64."),
        ({"uname": "echo Linux x86_64"}, "or these installed by hand: python3"),
        ({"uname": "echo Linux x86_64", "apt_get": "exit 1", "id": "echo 1000"}, "Run this as root or install sudo"),
        (
            {"uname": "echo Linux x86_64", "apt_get": "exit 1", "id": "echo 0", "env": "exit 1"},
            "run it by hand to see why",
        ),
    ],
)
def test_one_clear_sentence_and_exit_2(tmp_path: Path, programs: dict[str, str], said: str) -> None:
    done = run(tmp_path, **programs)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "env").exists()
