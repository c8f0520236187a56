"""`dicom-router-train split`."""

from __future__ import annotations

from pathlib import Path

import click

from train.cli.options import data_options, manifest_option, out_option


@click.command()
@manifest_option
@out_option
@data_options
@click.option("--seed", default=0, show_default=True, help="Seed of the random division.")
@click.option(
    "--shares",
    default="0.70/0.15/0.15",
    show_default=True,
    help="Shares of train, val and test, used if the manifest has no splits.",
)
@click.option(
    "--leave-out",
    multiple=True,
    metavar="SOURCE",
    help="A source (column dataset) to exclude from training; repeatable. Its images get the split left-out, "
    "for `evaluate --split left-out`.",
)
def split(
    manifest: Path,
    out: Path,
    licences: str | None,
    splits: Path | None,
    cache: Path | None,
    allow_leaks: bool,
    seed: int,
    shares: str,
    leave_out: tuple[str, ...],
) -> None:
    """Divide images into train, val and test by patient, and check the splits for leaks.

    Splits of the manifest are kept and checked. The images are decoded into
    the cache; `fit` with the same --splits and --cache uses them.
    """
    from train.data.dataset import DataOptions, load
    from train.data.manifest import read_licences
    from train.data.split import counts, read_shares

    allowed = tuple(read_licences(licences)) if licences else None
    options = DataOptions(allowed, splits, cache, allow_leaks, read_shares(shares), seed, leave_out)
    loaded = load(manifest, out, options)
    numbers = ", ".join(f"{number} {name}" for name, number in counts(loaded.frame["split"].to_numpy(str)).items())
    click.echo(f"{splits or out / 'splits.csv'}: {numbers}; {loaded.broken} broken files left out")
