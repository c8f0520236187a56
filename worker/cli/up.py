"""`dicom-router up`: the local stack in the foreground."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import click

from worker.local.foreground import end_on_signals

log = logging.getLogger(__name__)


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
    from worker.settings import get_settings

    get_settings()  # refuse a wrong setting before anything is started
    plugin = {"FirstStart": "whole-archive"} if whole_archive else {}
    layout = Layout(data.absolute(), workers, concurrency, plugin)
    end_on_signals()
    try:
        with Stack(layout) as stack:
            click.echo("\nFor the other commands, in another terminal:")
            for name, value in stack.environment.items():
                click.echo(f"  export {name}={value}")
            click.echo("Ctrl-C stops everything.")
            threading.Event().wait()
    except KeyboardInterrupt:
        log.info("stopped")
