"""The command `dicom-router-train`. Commands import heavy packages when they run, so that --help is fast."""

from __future__ import annotations

import click

from train.cli.compare import compare
from train.cli.evaluate import evaluate
from train.cli.export import card, export
from train.cli.fit import fit
from train.cli.from_orthanc import from_orthanc
from train.cli.manifest import manifest
from train.cli.reproduce import reproduce
from train.cli.split import split
from train.cli.tree import tree
from train.cli.weights import weights
from worker import __version__
from worker.console import CommandLine


@click.group("dicom-router-train", cls=CommandLine)
@click.version_option(__version__)
def main() -> None:
    """Train, measure and export models that classify body parts."""


for _command in (manifest, from_orthanc, split, weights, fit, evaluate, compare, export, tree, card, reproduce):
    main.add_command(_command)
