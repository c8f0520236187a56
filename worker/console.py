"""What both command lines share: errors in one line, logging with -v and -q, progress bars."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from worker.errors import RouterError

T = TypeVar("T")

OUR_LOGGERS = ("worker", "train")


class CommandLine(click.Group):
    """A group of commands with the options -v and -q.

    Our own errors are printed in one line, exit 2: they are about the set-up, not about one file.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*arguments, **options)
        self.params += [
            click.Option(["-v", "--verbose"], is_flag=True, help="Print more of what is done."),
            click.Option(["-q", "--quiet"], is_flag=True, help="Print results and errors only."),
        ]

    def invoke(self, context: click.Context) -> Any:
        set_up_logging(context.params.pop("verbose"), context.params.pop("quiet"))
        try:
            return super().invoke(context)
        except RouterError as error:
            click.echo(f"{self.name}: {error}", err=True)
            sys.exit(2)


def set_up_logging(verbose: bool, quiet: bool) -> None:
    """Send log records to stderr as plain lines.

    Our own from INFO on (verbose: DEBUG, quiet: ERROR); those of libraries
    from ERROR on (verbose: INFO, and httpx, which names every request, WARNING).
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(message)s")
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)


@contextmanager
def progress(items: Iterable[T], total: int, text: str) -> Iterator[Callable[[], Iterator[T]]]:
    """A bar on a terminal's stderr, silent elsewhere; yields a function that iterates."""
    if not sys.stderr.isatty():
        yield lambda: iter(items)
        return
    from rich.console import Console
    from rich.progress import track

    yield lambda: iter(track(items, description=text, total=total, console=Console(stderr=True)))
