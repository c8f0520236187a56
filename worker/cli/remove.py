"""`dicom-router remove`: take our labels and metadata out of Orthanc."""

from __future__ import annotations

import click

from worker.cli.connect import make_archive, make_ledger
from worker.console import progress


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def remove(dry_run: bool) -> None:
    """Take exactly our labels and metadata out of Orthanc again.

    Only labels that a verdict says we wrote are removed; other people's stay.
    """
    from worker.settings import get_settings
    from worker.verdict.record import Recorder

    archive = make_archive()
    recorder = Recorder(archive, make_ledger(archive), get_settings().label_prefix)
    judged = [one.id for one in archive.with_verdict()]
    studies: set[str] = set()
    for start in range(0, len(judged), 200):
        studies.update(one.study for one in archive.describe(judged[start : start + 200]).values())
    count = 0
    with progress(studies, len(studies), "removing") as each:
        for study in each():
            count += len(recorder.remove(study, dry_run))
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{count} verdicts in {len(studies)} studies {verb}")
