"""`dicom-router-train reproduce`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.cli.options import data_options, out_option
from train.fit.recipe import DEFAULT_RECIPE, PAPER_RECIPES
from worker.errors import ConfigError

if TYPE_CHECKING:
    from train.experiment.missing import FoundData
    from train.experiment.reproduce import Variants

log = logging.getLogger(__name__)

SMOKE_RECIPES = ("mobilenetv1", DEFAULT_RECIPE)


@click.command()
@click.option(
    "--data",
    "--manifest",
    "data",
    required=True,
    type=click.Path(path_type=Path),
    help="A manifest; a folder [<split>/]<class>/ of images; or a folder for the public images, "
    "each repository as <owner>/<name> (missing images are reported with the commands that fetch them).",
)
@click.option("--weights", help="Folder with pretrained weights, or 'none' to start from random ones.")
@click.option(
    "--recipe",
    "names",
    multiple=True,
    help="A recipe's name, or a .toml file; repeatable. [default: the paper's seven, and two_step]",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting of the recipes that train one network, such as epochs=5; the table shows the change.",
)
@click.option(
    "--variants",
    type=click.Choice(["ours", "all", "none"]),
    default="ours",
    show_default=True,
    help="Recipes that are also exported in fp16 and int8: all except the paper's, all, or none.",
)
@click.option("--smoke", is_flag=True, help="Run all steps on a few images, in a few minutes.")
@click.option("--allow-missing", is_flag=True, help="Continue without missing images.")
@out_option
@data_options
def reproduce(
    data: Path,
    weights: str | None,
    names: tuple[str, ...],
    overrides: tuple[str, ...],
    variants: Variants,
    smoke: bool,
    allow_missing: bool,
    out: Path,
    licences: str | None,
    splits: Path | None,
    cache: Path | None,
    allow_leaks: bool,
) -> None:
    """Train, export and measure every recipe, and write a table; missing images are reported first.

    Run the same command again to continue an interrupted run. The exit code is 1 if a recipe was
    left out or has failed; the table then contains the others.
    """
    from train.data.dataset import DataOptions
    from train.data.manifest import read_licences
    from train.experiment.missing import find_data
    from train.experiment.reproduce import Plan, choose_recipes, with_weights
    from train.experiment.reproduce import reproduce as run
    from train.experiment.summary import write_summary
    from train.fit.recipe import networks_of

    if smoke and splits is not None:
        raise click.UsageError("--smoke makes its own splits: leave --splits out.")

    allowed = tuple(read_licences(licences)) if licences else None
    choices = choose_recipes(names or (SMOKE_RECIPES if smoke else (*PAPER_RECIPES, DEFAULT_RECIPE)), overrides, smoke)
    left_out: dict[str, str] = {}
    folder = None if weights in (None, "none") else Path(str(weights))
    if weights != "none" and any(networks_of(choice.recipe) for choice in choices):
        choices, left_out = with_weights(choices, folder)
    found = find_data(data, out, allowed)
    refused = found.missing and not (allow_missing or smoke)
    for line in found.told:
        log.log(logging.ERROR if refused else logging.WARNING, line)
    if refused:
        raise ConfigError(
            f"{found.missing} listed images are missing, see above",
            "fetch them, or continue without them with --allow-missing (the table shows their number)",
        )
    if smoke:
        found = _small_part_of(found, out)
        allowed = None  # the small part has allowed images only
    options = DataOptions(allowed, splits, cache, allow_leaks)
    plan = Plan(choices, found, folder, out, options, variants, smoke)
    outcome = run(plan)
    click.echo(write_summary(plan, outcome, left_out), nl=False)
    log.info(f"table: {out / 'table.md'}" if outcome.finished else "no recipe was finished")
    if left_out or outcome.failed:
        sys.exit(1)


def _small_part_of(found: FoundData, out: Path) -> FoundData:
    """The part of the data for a smoke run, with a manifest of its own."""
    from train.data.manifest import write_manifest
    from train.data.subset import small_part
    from train.experiment.missing import FoundData

    part = small_part(found.frame[found.frame["path"].map(lambda path: Path(path).is_file())])
    manifest = out / "smoke.csv"
    write_manifest(part.assign(file=part["path"]).drop(columns="path"), manifest)
    log.info(f"smoke run: {len(part)} of {len(found.frame)} images, listed in {manifest}")
    return FoundData(part, manifest, found.missing, found.told)
