"""`dicom-router find`: list what carries a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.cli.connect import open_archive
from worker.cli.output import format_option, print_json, print_rows

if TYPE_CHECKING:
    from worker.orthanc_client import Level

UIDS: dict[Level, str] = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}


@click.command()
@click.argument("label")
@click.option("--level", type=click.Choice(["study", "series", "instance"]), default="study", show_default=True)
@format_option
def find(label: str, level: Level, style: str) -> None:
    """List what carries LABEL, such as bp-adult_chest (or adult_chest)."""
    from worker.settings import get_settings

    prefix = get_settings().label_prefix
    with open_archive() as archive:
        found = archive.find_label(label, level)
        if not found and not label.startswith(prefix):
            found = archive.find_label(prefix + label, level)
    rows = [
        {
            "id": resource["ID"],
            "uid": resource["MainDicomTags"].get(UIDS[level], ""),
            "labels": sorted(resource["Labels"]),
        }
        for resource in found
    ]
    if style == "json":
        print_json(rows)
    else:
        print_rows([{**row, "labels": " ".join(row["labels"])} for row in rows], ["id", "uid", "labels"], style)
