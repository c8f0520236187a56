"""`dicom-router-train evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from train.cli.options import manifest_option, model_option, out_option


@click.command()
@model_option
@manifest_option
@click.option("--split", default="test", show_default=True, help="Rows of the manifest to measure on.")
@out_option
@click.option("--record", is_flag=True, help="Write the main figures into the model file's properties.")
def evaluate(model: Path, manifest: Path, split: str, out: Path, record: bool) -> None:
    """Measure an exported model; writes metrics.json and metrics.md."""
    from train.evaluate import evaluate as run
    from train.evaluate import tables
    from train.export import set_metrics

    figures = run(model, manifest, split, out, lambda line: click.echo(line, err=True))
    if record:
        kept = ("n", "split", "macro_f1", "macro_f1_merged_chests", "adult_pediatric_balanced_accuracy", "answered")
        set_metrics(model, {key: figures[key] for key in kept})
    click.echo(tables(figures))
