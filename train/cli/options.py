"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

manifest_option = click.option(
    "--manifest",
    "--data",
    "manifest",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="CSV or Parquet with at least the columns file and class; or a folder [<split>/]<class>/ of images.",
)
model_option = click.option(
    "--model", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The .onnx file."
)
out_option = click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the results."
)
licences_option = click.option(
    "--licences", help="Keep only images with these licences: a file with one a line, or a list with commas."
)
splits_option = click.option(
    "--splits",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The splits.csv of fit, used instead of the manifest's splits.",
)
"""For commands that read the splits of an earlier command, which need the same --licences."""

_data_options = (
    licences_option,
    click.option(
        "--splits",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File of the splits; it is read if it exists, else written. [default: OUT/splits.csv]",
    ),
    click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for decoded images, which later runs can share. [default: OUT/cache]",
    ),
    click.option("--allow-leaks", is_flag=True, help="Continue if a patient or a picture is in two splits."),
)


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for train.data.dataset.DataOptions."""
    for option in reversed(_data_options):
        command = option(command)
    return command
