"""`dicom-router-train export` and `dicom-router-train card`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.cli.options import licences_option, manifest_option, model_option, splits_option

if TYPE_CHECKING:
    from worker.settings import Precision


@click.command()
@click.option(
    "--checkpoint", required=True, type=click.Path(exists=True, path_type=Path), help="The checkpoint.pt of fit."
)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .onnx to write.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice(["fp16", "int8", "none"]),
    default=("fp16", "int8"),
    show_default=True,
    help="Variant to write beside OUT if it agrees with fp32; repeatable. 'none' for fp32 only.",
)
@manifest_option
@splits_option
@licences_option
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of decoded images. [default: cache/ beside the checkpoint]",
)
def export(
    checkpoint: Path,
    out: Path,
    variants: tuple[str, ...],
    manifest: Path,
    splits: Path | None,
    licences: str | None,
    cache: Path | None,
) -> None:
    """Write the ONNX file (fp32) and its variants, compared with PyTorch on images of the manifest's split dev."""
    from train.data.manifest import read_licences
    from train.export.release import release

    precisions: tuple[Precision, ...] = ("fp16", "int8")
    model = release(
        checkpoint,
        out,
        manifest,
        [precision for precision in precisions if precision in variants and "none" not in variants],
        splits=splits,
        licences=read_licences(licences) if licences else None,
        cache=cache,
    )
    click.echo(model)


@click.command()
@model_option
@click.option(
    "--metrics", required=True, type=click.Path(exists=True, path_type=Path), help="The metrics.json of evaluate."
)
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The MODEL_CARD.md to write."
)
@click.option(
    "--notes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Markdown file to include, such as limits.",
)
def card(model: Path, metrics: Path, out: Path, notes: Path | None) -> None:
    """Write the model card from a model file and its measured figures."""
    from train.measure.card import write_card

    text = notes.read_text(encoding="utf-8") if notes else ""
    write_card(model, json.loads(metrics.read_text(encoding="utf-8")), out, text)
