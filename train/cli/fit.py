"""`dicom-router-train fit`."""

from __future__ import annotations

from pathlib import Path

import click

from train.cli.options import manifest_option, out_option


@click.command()
@manifest_option
@click.option("--recipe", default="three_probe", show_default=True, help="A recipe's name, or a .toml file.")
@click.option("--weights", required=True, help="Folder with pretrained weights, or 'none' to start from random ones.")
@out_option
def fit(manifest: Path, recipe: str, weights: str, out: Path) -> None:
    """Train on the split dev; writes checkpoint.pt and validation.json."""
    from train.fit import fit as run
    from train.fit import read_recipe

    click.echo(run(read_recipe(recipe), manifest, None if weights == "none" else Path(weights), out, click.echo))
