"""`dicom-router-train manifest`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import pandas as pd


@click.command()
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder [<split>/]<class>/ of DICOM, PNG and JPEG files.",
)
@click.option(
    "--sources",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the repositories of the public images, each as <owner>/<name>.",
)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .csv to write.")
def manifest(folder: Path | None, sources: Path | None, out: Path) -> None:
    """Write a manifest of a folder of classes, or of the fetched public images.

    With --sources, missing images are listed in a file beside OUT, and the commands
    that fetch them are printed; the exit code is then 1.
    """
    if (folder is None) == (sources is None):
        raise click.UsageError("name one of --folder and --sources.")
    if folder is not None:
        from train.data.manifest import read_manifest

        frame = read_manifest(folder)
        _write(frame.assign(file=frame["path"]).drop(columns="path"), out)
        return
    assert sources is not None
    from train.data.sources import find_sources, how_to_fetch

    found, missing = find_sources(sources)
    _write(found.rename(columns={"repo": "source_repo", "path": "source_path", "commit": "source_commit"}), out)
    if len(missing):
        beside = out.with_name(f"{out.stem}-missing.csv")
        missing.to_csv(beside, index=False)
        for line in how_to_fetch(missing, sources):
            click.echo(line, err=True)
        click.echo(f"{len(missing)} images are missing; all of them are listed in {beside}", err=True)
        sys.exit(1)


def _write(frame: pd.DataFrame, out: Path) -> None:
    from train.data.manifest import write_manifest

    write_manifest(frame, out)
    click.echo(f"{len(frame)} images listed in {out}")
