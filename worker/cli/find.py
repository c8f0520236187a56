"""`dicom-router find`: list what carries a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.cli.connect import make_archive
from worker.cli.output import format_option, print_json, print_rows

if TYPE_CHECKING:
    from worker.orthanc_client import Level


@click.command()
@click.argument("label")
@click.option("--level", type=click.Choice(["study", "series", "instance"]), default="study", show_default=True)
@format_option
def find(label: str, level: Level, style: str) -> None:
    """List what carries LABEL, such as bp-adult_chest (or adult_chest)."""
    from worker.settings import get_settings

    archive = make_archive()
    prefix = get_settings().label_prefix
    found = archive.find_label(label, level)
    if not found and not label.startswith(prefix):
        found = archive.find_label(prefix + label, level)
    uid = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}[level]
    rows = [
        {"id": one["ID"], "uid": one["MainDicomTags"].get(uid, ""), "labels": sorted(one["Labels"])} for one in found
    ]
    if style == "json":
        print_json(rows)
    else:
        print_rows([{**row, "labels": " ".join(row["labels"])} for row in rows], ["id", "uid", "labels"], style)
