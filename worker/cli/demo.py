"""`dicom-router demo`: from upload to label on a stack of its own."""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
from pathlib import Path

import click

from worker.errors import ConfigError
from worker.local.foreground import end_on_signals

log = logging.getLogger(__name__)


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True, path_type=Path))
@click.option("--timeout", type=float, default=300, show_default=True, help="Longest wait for the verdicts (seconds).")
def demo(paths: tuple[Path, ...], timeout: float) -> None:
    """Upload PATHs, or two sample X-rays in several encodings, to a local stack and show their labels.

    On a terminal everything stays up until Ctrl-C. Exit 0 only where every image got its verdict.
    """
    from worker.cli.files import collect
    from worker.cli.tour import Tour, sample_files
    from worker.local.stack import Layout, Stack
    from worker.settings import get_settings

    get_settings()  # refuse a wrong setting before anything is started
    end_on_signals()
    complete = False
    with tempfile.TemporaryDirectory(prefix="dicom-router-demo-") as folder:
        files = collect(paths) if paths else sample_files(Path(folder) / "samples")
        if not files:
            raise ConfigError(f"no file in {', '.join(map(str, paths))}", "name a folder that holds DICOM files")
        try:
            with Stack(Layout(Path(folder) / "stack")) as stack:
                complete = Tour(stack, timeout).run(files)
                if sys.stdout.isatty():
                    click.echo("\nCtrl-C stops everything.")
                    threading.Event().wait()
        except KeyboardInterrupt:
            log.info("stopped")
    sys.exit(0 if complete else 1)
