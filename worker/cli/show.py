"""`dicom-router show`: print the verdict on an instance."""

from __future__ import annotations

import sys

import click

from worker.cli.connect import open_archive
from worker.cli.output import print_json


@click.command()
@click.argument("instance")
def show(instance: str) -> None:
    """Print the verdict on one INSTANCE (an Orthanc instance id)."""
    with open_archive() as archive:
        stored = archive.describe([instance]).get(instance)
    if stored is None:
        raise click.UsageError(f"there is no instance {instance} in this Orthanc.")
    if stored.verdict is None:
        click.echo(f"instance {instance} has no verdict", err=True)
        sys.exit(1)
    print_json(stored.verdict)
