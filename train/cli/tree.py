"""`dicom-router-train tree`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from train.cli.options import manifest_option, model_option


@click.command()
@model_option
@manifest_option
@click.option(
    "--accuracy",
    type=click.FloatRange(0.5, 1),
    default=0.995,
    show_default=True,
    help="Wanted share of right answers at each node above classes.",
)
def tree(model: Path, manifest: Path, accuracy: float) -> None:
    """Give a model file and its variants the node `chest` above the two chests, with a threshold of its own.

    The threshold comes from the images of the split dev whose source the model has not seen. Weights and other
    thresholds stay as they are.
    """
    from train.export.tree import add_tree

    click.echo(json.dumps(add_tree(model, manifest, accuracy), indent=1))
