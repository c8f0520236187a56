"""`dicom-router-train split`."""

from __future__ import annotations

from pathlib import Path

import click

from train.cli.options import data_options, manifest_option, out_option


@click.command()
@manifest_option
@out_option
@data_options
@click.option("--seed", default=0, show_default=True, help="Of the division.")
@click.option(
    "--shares",
    default="0.70/0.15/0.15",
    show_default=True,
    help="Of train, val and test, where the manifest has no splits of its own.",
)
@click.option(
    "--leave-out",
    multiple=True,
    metavar="SOURCE",
    help="A source (column dataset) of which nothing is learned: its images get the split left-out, "
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
    """Divide images into train, val and test by patient, and check that the splits are apart.

    A manifest's own splits stay and are checked. The images are decoded into
    the cache on the way; fit with the same --splits and --cache goes on from there.
    """
    from train.data.dataset import DataOptions, load
    from train.data.manifest import read_licences
    from train.data.split import counts, read_shares

    allowed = tuple(read_licences(licences)) if licences else None
    options = DataOptions(allowed, splits, cache, allow_leaks, read_shares(shares), seed, leave_out)
    loaded = load(manifest, out, options)
    numbers = ", ".join(f"{number} {name}" for name, number in counts(loaded.frame["split"].to_numpy(str)).items())
    click.echo(f"{splits or out / 'splits.csv'}: {numbers}; {loaded.broken} broken files left out")
