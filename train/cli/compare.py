"""`dicom-router-train compare`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .md or .csv to write.")
@click.option(
    "--speed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A benchmark's CSV with the columns model and images_per_second.",
)
def compare(folders: tuple[Path, ...], out: Path, speed: Path | None) -> None:
    """Write a table of several evaluations.

    Differences are to the first of FOLDERS, on the images of both.
    """
    from train.measure.compare import read_result, read_speeds, rows_of, write_table

    rows = rows_of([read_result(folder) for folder in folders], read_speeds(speed) if speed else {})
    click.echo(write_table(rows, out), nl=False)
