"""`dicom-router-train fit`."""

from __future__ import annotations

from pathlib import Path

import click

from train.cli.options import data_options, manifest_option, out_option
from train.fit.recipe import DEFAULT_RECIPE
from worker.errors import ConfigError


@click.command()
@manifest_option
@click.option("--recipe", default=DEFAULT_RECIPE, show_default=True, help="A recipe's name, or a .toml file.")
@click.option("--weights", help="Folder with pretrained weights, or 'none' to start from random ones.")
@click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change a setting of the recipe; repeatable."
)
@click.option(
    "--save-every",
    default=10.0,
    show_default=True,
    metavar="MINUTES",
    type=click.FloatRange(min=0),
    help="Time between two saved states inside an epoch; a state is also saved after each epoch.",
)
@out_option
@data_options
def fit(
    manifest: Path,
    recipe: str,
    weights: str | None,
    overrides: tuple[str, ...],
    save_every: float,
    out: Path,
    licences: str | None,
    splits: Path | None,
    cache: Path | None,
    allow_leaks: bool,
) -> None:
    """Train on the splits dev, train and val; writes checkpoint.pt and validation.json.

    Run the same command again to continue an interrupted run.
    """
    from train.data.dataset import DataOptions
    from train.data.manifest import read_licences
    from train.fit.fit import fit as run
    from train.fit.recipe import read_recipe

    settings = read_recipe(recipe, overrides)
    if settings.pretrained and weights is None:
        raise ConfigError(
            f"the recipe {settings.name} starts from pretrained weights, and --weights is missing",
            "name their folder with --weights, or use --weights none for random ones; nothing is downloaded",
        )
    folder = None if weights in (None, "none") else Path(str(weights))
    options = DataOptions(tuple(read_licences(licences)) if licences else None, splits, cache, allow_leaks)
    click.echo(run(settings, manifest, folder, out, options, save_every))
