"""The files that a command was given."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

paths_argument = click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)


def collect(paths: Iterable[Path]) -> list[Path]:
    """Files as given and, in order of name, those of folders and their sub-folders; each once."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(sorted(file for file in path.rglob("*") if file.is_file())))
        else:
            found[path] = None
    return list(found)
