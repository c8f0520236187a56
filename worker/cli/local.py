"""`dicom-router up` and `dicom-router demo`: the local stack in the foreground."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import click

from worker.errors import ConfigError


def _end_on_signals() -> None:
    """Make a polite kill end the foreground like Ctrl-C; neither may cut the stop itself short."""

    def end(*_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


@click.command()
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True, help="Number of workers.")
@click.option("--concurrency", type=click.IntRange(0, 256), default=0, help="Processes in each; 0 shares the cores.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("dicom-router-data"),
    show_default=True,
    help="Folder for databases, logs and configuration; kept between runs.",
)
@click.option("--whole-archive", is_flag=True, help="At the first start, judge what the folder holds already.")
def up(workers: int, concurrency: int, data: Path, whole_archive: bool) -> None:
    """Run Orthanc with the plugin, Redis and workers here. Ctrl-C stops them in order."""
    from worker.local.stack import Layout, Stack

    plugin = {"FirstStart": "whole-archive"} if whole_archive else {}
    layout = Layout(data.absolute(), workers, concurrency, plugin)
    _end_on_signals()
    try:
        with Stack(layout, click.echo) as stack:
            click.echo("\nFor the other commands, in another terminal:")
            for name, value in stack.environment.items():
                click.echo(f"  export {name}={value}")
            click.echo("Ctrl-C stops everything.")
            threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("stopped")


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True, path_type=Path))
@click.option("--timeout", type=float, default=300, show_default=True, help="Longest wait for the verdicts (seconds).")
def demo(paths: tuple[Path, ...], timeout: float) -> None:
    """From upload to label, on real parts: PATHs, or two real X-rays in several encodings.

    On a terminal everything stays up until Ctrl-C. Exit 0 only where every image got its verdict.
    """
    from worker.cli.demo import Demo, sample_files
    from worker.cli.files import collect
    from worker.local.stack import Layout, Stack

    _end_on_signals()
    complete = False
    with tempfile.TemporaryDirectory(prefix="dicom-router-demo-") as folder:
        files = collect(paths) if paths else sample_files(Path(folder) / "samples")
        if not files:
            raise ConfigError(f"no file in {', '.join(map(str, paths))}; name a folder that holds DICOM files.")
        try:
            with Stack(Layout(Path(folder) / "stack"), click.echo) as stack:
                complete = Demo(stack, timeout).run(files)
                if sys.stdout.isatty():
                    click.echo("\nCtrl-C stops everything.")
                    threading.Event().wait()
        except KeyboardInterrupt:
            click.echo("stopped")
    sys.exit(0 if complete else 1)
