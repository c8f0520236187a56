"""`dicom-router-train evaluate`."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from train.cli.options import licences_option, manifest_option, model_option, out_option, splits_option

log = logging.getLogger(__name__)


@click.command()
@model_option
@manifest_option
@click.option("--split", default="test", show_default=True, help="Rows of the manifest to measure on.")
@splits_option
@licences_option
@out_option
@click.option(
    "--dicom",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of DICOM files to classify and show in the report.",
)
@click.option(
    "--images/--no-images",
    default=True,
    help="Whether report.html contains pictures and file names; without them it can be shared. "
    "predictions.csv always contains file names.",
)
@click.option(
    "--validation",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The validation.json of fit, for the figures of left-out sources. [default: the one beside the model, "
    "else the figures in the model file]",
)
@click.option("--record", is_flag=True, help="Write the main figures into the model file's properties.")
def evaluate(
    model: Path,
    manifest: Path,
    split: str,
    splits: Path | None,
    licences: str | None,
    out: Path,
    dicom: Path | None,
    images: bool,
    validation: Path | None,
    record: bool,
) -> None:
    """Measure an exported model; writes report.html, metrics.json, metrics.md and predictions.csv."""
    from train.data.manifest import read_licences
    from train.export.onnx_file import set_metrics
    from train.measure.evaluate import evaluate as run
    from train.measure.tables import tables

    figures = run(
        model,
        manifest,
        split,
        out,
        dicom=dicom,
        images=images,
        validation=validation,
        splits=splits,
        licences=read_licences(licences) if licences else None,
    )
    if record:
        kept = ("n", "split", "macro_f1", "macro_f1_merged_chests", "adult_pediatric_balanced_accuracy", "answered")
        also = ("levels", "header_age")
        set_metrics(model, {key: figures[key] for key in (*kept, *also) if key in figures})
    click.echo(tables(figures))
    log.info(f"report: {out / 'report.html'}")
