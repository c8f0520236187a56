"""The command `dicom-router-train`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from worker import __version__
from worker.cli import ErrorsInOneLine

manifest_option = click.option(
    "--manifest",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with at least the columns file and class.",
)


@click.group(cls=ErrorsInOneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Train, measure and export models that tell body parts apart."""


@main.command()
@manifest_option
@click.option("--recipe", default="three_probe", show_default=True, help="A recipe's name, or a .toml file.")
@click.option("--weights", required=True, help="Folder with pretrained weights, or 'none' to start from random ones.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
def fit(manifest: Path, recipe: str, weights: str, out: Path) -> None:
    """Train on the split dev; writes checkpoint.pt and validation.json."""
    from train.fit import fit as run
    from train.fit import read_recipe

    click.echo(run(read_recipe(recipe), manifest, None if weights == "none" else Path(weights), out, click.echo))


@main.command()
@click.option("--model", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The .onnx.")
@manifest_option
@click.option("--split", default="test", show_default=True, help="Rows of the manifest to measure on.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
@click.option("--record", is_flag=True, help="Write the main figures into the model file's properties.")
def evaluate(model: Path, manifest: Path, split: str, out: Path, record: bool) -> None:
    """Measure an exported model; writes metrics.json and metrics.md."""
    from train.evaluate import evaluate as run
    from train.evaluate import tables
    from train.export import set_metrics

    figures = run(model, manifest, split, out, lambda line: click.echo(line, err=True))
    if record:
        kept = ("n", "split", "macro_f1", "macro_f1_merged_chests", "adult_pediatric_balanced_accuracy", "answered")
        set_metrics(model, {key: figures[key] for key in kept})
    click.echo(tables(figures))


@main.command()
@click.option("--model", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The .onnx.")
@click.option(
    "--metrics", required=True, type=click.Path(exists=True, path_type=Path), help="metrics.json of evaluate."
)
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The MODEL_CARD.md to write."
)
def card(model: Path, metrics: Path, out: Path) -> None:
    """Write the model card from a model file and its measured figures."""
    from train.card import write_card

    write_card(model, json.loads(metrics.read_text(encoding="utf-8")), out)


@main.command()
@click.option("--checkpoint", required=True, type=click.Path(exists=True, path_type=Path), help="What fit wrote.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .onnx to write.")
@manifest_option
def export(checkpoint: Path, out: Path, manifest: Path) -> None:
    """Write the ONNX file and compare it with PyTorch on images of the manifest's split dev."""
    from train.export import export as run
    from train.manifest import load_images, read_manifest

    validation = checkpoint.with_name("validation.json")
    metrics: dict[str, Any] = json.loads(validation.read_text(encoding="utf-8")) if validation.is_file() else {}
    frame = read_manifest(manifest, "dev")
    images = load_images(list(frame["path"].sample(min(32, len(frame)), random_state=0)))
    difference = run(checkpoint, out, {"validation": metrics.get("decays", {})}, images)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, largest difference to PyTorch {difference:.2g}")
    sys.exit(0)
