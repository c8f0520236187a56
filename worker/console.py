"""What both command lines share: progress bars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def progress(items: Iterable[T], total: int, text: str) -> Iterator[Callable[[], Iterator[T]]]:
    """A bar on a terminal's stderr, silent elsewhere; yields a function that iterates."""
    if not sys.stderr.isatty():
        yield lambda: iter(items)
        return
    from rich.console import Console
    from rich.progress import track

    yield lambda: iter(track(items, description=text, total=total, console=Console(stderr=True)))
