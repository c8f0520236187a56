"""`dicom-router remove`: remove the router's labels and metadata from Orthanc."""

from __future__ import annotations

import click

from worker.cli.connect import make_ledger, open_archive
from worker.console import progress


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def remove(dry_run: bool) -> None:
    """Remove the router's labels and metadata from Orthanc.

    A label is removed only where a verdict, or the metadata BodyPartUnion of a
    series or study, names it. All other labels stay.
    """
    from worker.settings import get_settings
    from worker.verdict.record import Recorder

    with open_archive() as archive:
        recorder = Recorder(archive, make_ledger(archive), get_settings().label_prefix)
        studies = archive.recorded_studies()
        count = 0
        with progress(studies, len(studies), "removing") as each:
            for study in each():
                count += len(recorder.remove(study, dry_run))
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{count} verdicts in {len(studies)} studies {verb}")
