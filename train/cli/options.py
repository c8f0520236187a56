"""Options that several commands share, spelled once."""

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
    "--model", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The .onnx."
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
    help="The file of the splits that fit wrote (splits.csv), in the place of the manifest's own.",
)
"""For commands that read the splits of an earlier one; then --licences must be the same, too."""

_data_options = (
    licences_option,
    click.option(
        "--splits",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File of the splits: read where it exists, else written. [default: OUT/splits.csv]",
    ),
    click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of decoded images, for later runs too. [default: OUT/cache]",
    ),
    click.option("--allow-leaks", is_flag=True, help="Go on where a patient or a picture stands in two splits."),
)


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options behind train.data.dataset.DataOptions."""
    for option in reversed(_data_options):
        command = option(command)
    return command
