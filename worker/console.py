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
    """A group of commands that takes the options -v and -q before and after a command's name.

    Our own errors are printed in one line, exit 2: they are about the set-up, not about one file.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*arguments, **options)
        self.params += _verbosity_options()

    def add_command(self, command: click.Command, name: str | None = None) -> None:
        command.params += _verbosity_options()
        super().add_command(command, name)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except RouterError as error:
            click.echo(f"{self.name}: {error}", err=True)
            sys.exit(2)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        set_up_logging()  # before the options are read: they may change it
        return super().make_context(*arguments, **options)


def _verbosity_options() -> list[click.Option]:
    def set_level(_: click.Context, option: click.Parameter, given: bool) -> None:
        if given:
            set_up_logging(verbose=option.name == "verbose", quiet=option.name == "quiet")

    common: dict[str, Any] = {"is_flag": True, "expose_value": False, "callback": set_level}
    return [
        click.Option(["-v", "--verbose"], help="Print more of what is done.", **common),
        click.Option(["-q", "--quiet"], help="Print results and errors only.", **common),
    ]


class _PlainHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes messages to stderr, each as a line without time or level."""


def set_up_logging(*, verbose: bool = False, quiet: bool = False) -> None:
    """Send log records to stderr as plain lines.

    Our own from INFO on (verbose: DEBUG, quiet: ERROR); those of libraries
    from ERROR on (verbose: INFO, and httpx, which names every request, WARNING).
    Where a root handler exists already, as under pytest, it stays the only one.
    """
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_PlainHandler())
    if all(isinstance(handler, _PlainHandler) for handler in root.handlers):
        root.setLevel(logging.INFO if verbose else logging.ERROR)
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING if verbose else logging.NOTSET)


@contextmanager
def progress(items: Iterable[T], total: int, text: str) -> Iterator[Callable[[], Iterator[T]]]:
    """A bar on a terminal's stderr, silent elsewhere; yields a function that iterates."""
    if not sys.stderr.isatty():
        yield lambda: iter(items)
        return
    from rich.console import Console
    from rich.progress import track

    yield lambda: iter(track(items, description=text, total=total, console=Console(stderr=True)))
