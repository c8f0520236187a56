"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path

import click

manifest_option = click.option(
    "--manifest",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with at least the columns file and class.",
)
model_option = click.option(
    "--model", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The .onnx."
)
out_option = click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the results."
)
