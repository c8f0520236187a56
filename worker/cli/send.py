"""`dicom-router send`: upload files to Orthanc."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.connect import open_archive
from worker.cli.files import collect, paths_argument
from worker.cli.output import print_rows
from worker.console import progress
from worker.errors import BadInput

if TYPE_CHECKING:
    from worker.orthanc_client import Archive

log = logging.getLogger(__name__)


@click.command()
@paths_argument
@click.option("--wait", is_flag=True, help="Wait until every X-ray among them has its verdict, and print it.")
@click.option("--timeout", type=float, default=300, show_default=True, help="Longest wait in seconds, with --wait.")
def send(paths: tuple[Path, ...], wait: bool, timeout: float) -> None:
    """Upload DICOM files and folders of them to Orthanc.

    Exit 1 where Orthanc refused a file, or a verdict is missing when the wait ends.
    """
    with open_archive() as archive:
        sent, refused = _upload(archive, collect(paths))
        missing = _wait_and_print(archive, sent, timeout) if wait else 0
    sys.exit(1 if refused or missing else 0)


def _upload(archive: Archive, files: list[Path]) -> tuple[dict[str, Path], int]:
    """The file of each instance id, and how many files Orthanc refused."""
    refused, sent = 0, {}
    with progress(files, len(files), "uploading") as each:
        for path in each():
            try:
                sent[archive.upload(path.read_bytes())] = path
            except BadInput as error:
                refused += 1
                log.error("%s: %s", path, error)
    log.info("%d instances uploaded, %d files refused", len(sent), refused)
    return sent, refused


def _wait_and_print(archive: Archive, sent: dict[str, Path], timeout: float) -> int:
    """Print a row for each instance; returns how many verdicts are missing."""
    from worker.cli.waiting import wait_for_verdicts
    from worker.settings import get_settings

    arrivals = wait_for_verdicts(archive, sent, get_settings().modalities, timeout)
    rows = []
    for instance, stored in arrivals.stored.items():
        verdict = stored.verdict or {"outcome": "no verdict yet" if instance in arrivals.missing else "no X-ray"}
        rows.append({"file": str(sent[instance]), "instance": instance, **verdict})
    print_rows(rows, ["file", "outcome", "body_part", "confidence", "instance"], "table")
    return len(arrivals.missing)
