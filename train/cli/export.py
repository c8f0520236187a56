"""`dicom-router-train export` and `card`: what becomes of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from train.cli.options import manifest_option, model_option


@click.command()
@click.option("--checkpoint", required=True, type=click.Path(exists=True, path_type=Path), help="What fit wrote.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .onnx to write.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice(["fp16", "int8", "none"]),
    default=("fp16", "int8"),
    show_default=True,
    help="Written beside it where it agrees with it; 'none' for fp32 alone.",
)
@manifest_option
def export(checkpoint: Path, out: Path, variants: tuple[str, ...], manifest: Path) -> None:
    """Write the ONNX file (fp32) and its variants, compared with PyTorch on images of the manifest's split dev."""
    from train.export import export as run
    from train.manifest import load_images, read_manifest
    from train.variants import COMPARED_IMAGES, add_variants

    validation = checkpoint.with_name("validation.json")
    metrics: dict[str, Any] = json.loads(validation.read_text(encoding="utf-8")) if validation.is_file() else {}
    frame = read_manifest(manifest, "dev")
    wanted = [one for one in ("fp16", "int8") if one in variants and "none" not in variants]
    # A variant is measured on all of dev, fp32 on a part of it.
    frame = frame.sample(len(frame) if wanted else min(COMPARED_IMAGES, len(frame)), random_state=0)
    images = load_images(list(frame["path"]))
    difference = run(
        checkpoint,
        out,
        {"validation": metrics.get("decays") or metrics.get("validation", {})},
        images[:COMPARED_IMAGES],
    )
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, largest difference to PyTorch {difference:.2g}")
    add_variants(checkpoint, out, images, wanted, click.echo)


@click.command()
@model_option
@click.option(
    "--metrics", required=True, type=click.Path(exists=True, path_type=Path), help="metrics.json of evaluate."
)
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The MODEL_CARD.md to write."
)
@click.option(
    "--notes", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Markdown to put in: limits, say."
)
def card(model: Path, metrics: Path, out: Path, notes: Path | None) -> None:
    """Write the model card from a model file and its measured figures."""
    from train.card import write_card

    text = notes.read_text(encoding="utf-8") if notes else ""
    write_card(model, json.loads(metrics.read_text(encoding="utf-8")), out, text)
