"""The benchmarks' options: what cannot be measured is refused before anything is started."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("benchmark", "arguments", "reason"),
    [
        ("scaling", ["--files", "150"], "--files is 150; at least 192 are needed: the first and the last 64"),
        ("scaling", ["--files", "191"], "--files is 191; at least 192 are needed: the first and the last 64"),
        ("scaling", ["--rounds", "0"], "--rounds is 0; at least 1 is needed"),
        ("ingest", ["--files", "0"], "--files is 0; at least 1 are needed: a round without files measures nothing"),
    ],
)
def test_too_few_files_or_rounds_are_refused_with_what_is_needed(
    benchmark: str, arguments: list[str], reason: str
) -> None:
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
