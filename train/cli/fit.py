"""`dicom-router-train fit`."""

from __future__ import annotations

from pathlib import Path

import click

from train.cli.options import data_options, manifest_option, out_option


@click.command()
@manifest_option
@click.option("--recipe", default="three_probe", show_default=True, help="A recipe's name, or a .toml file.")
@click.option("--weights", required=True, help="Folder with pretrained weights, or 'none' to start from random ones.")
@out_option
@data_options
def fit(
    manifest: Path,
    recipe: str,
    weights: str,
    out: Path,
    licences: str | None,
    splits: Path | None,
    cache: Path | None,
    allow_leaks: bool,
) -> None:
    """Train on what is not in the split test; writes checkpoint.pt and validation.json."""
    from train.dataset import DataOptions
    from train.fit import fit as run
    from train.fit import read_recipe
    from train.manifest import read_licences

    options = DataOptions(tuple(read_licences(licences)) if licences else None, splits, cache, allow_leaks)
    click.echo(
        run(read_recipe(recipe), manifest, None if weights == "none" else Path(weights), out, click.echo, options)
    )
