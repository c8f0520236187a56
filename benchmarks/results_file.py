"""Where figures go: a CSV named after its environment."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def write(folder: Path, question: str, rows: Sequence[Sequence[str]]) -> None:
    """Write rows, the first of them the header, as <question>-<environment>.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    python = platform.python_version()
    environment = f"{platform.system().lower()}-{platform.machine()}-{os.cpu_count()}cores-python{python}"
    with (folder / f"{question}-{environment}.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
