"""`dicom-router-train from-orthanc`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.cli.options import out_option

if TYPE_CHECKING:
    from worker.orthanc_client import Level

log = logging.getLogger(__name__)


@click.command("from-orthanc")
@click.option("--url", help="Orthanc's address. [default: DICOM_ROUTER_ORTHANC_URL, with its user and password]")
@click.option("--label", "labels", multiple=True, metavar="LABEL[=CLASS]", help="Images with this label; repeatable.")
@click.option(
    "--metadata",
    multiple=True,
    metavar="NAME=VALUE[=CLASS]",
    help="Images whose metadata NAME is VALUE; repeatable.",
)
@click.option(
    "--level",
    type=click.Choice(["instance", "series", "study"]),
    default="instance",
    show_default=True,
    help="Level of the labels; the label of a study selects all its images.",
)
@click.option("--dataset", default="orthanc", show_default=True, help="The source's name in the manifest.")
@click.option("--accept-predictions", is_flag=True, help="Also export images whose label a model wrote.")
@out_option
def from_orthanc(
    url: str | None,
    labels: tuple[str, ...],
    metadata: tuple[str, ...],
    level: Level,
    dataset: str,
    accept_predictions: bool,
    out: Path,
) -> None:
    """Export labelled images of an Orthanc: DICOM files and manifest.csv.

    CLASS can be omitted if the label (or value) is the name of a class.
    The files contain patient data; the manifest has salted hashes of patients.
    """
    from train.data.from_orthanc import export_from, read_wanted
    from worker.orthanc_client import Archive
    from worker.settings import get_settings

    settings = get_settings()
    wanted = [
        *(read_wanted("label", label, settings.label_prefix) for label in labels),
        *(read_wanted("metadata", text, settings.label_prefix) for text in metadata),
    ]
    if not wanted:
        raise click.UsageError("name at least one --label or --metadata.")
    with Archive(settings.at(url) if url else settings) as archive:
        done = export_from(archive, wanted, out, level, dataset, accept_predictions)
    click.echo(
        f"{done.images} images listed in {done.manifest}; left out: {done.ambiguous} with two classes, "
        f"{done.not_xrays} that are not X-rays, {done.broken} that cannot be read"
    )
    log.warning(f"the files in {out} contain patient data: protect them as you protect the archive")
