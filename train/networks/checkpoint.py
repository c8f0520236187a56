"""What `fit` writes and `export` reads: weights, and everything that the model file will say of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.data.names import CLASSES
from train.data.patients import digest_of
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    import torch


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    model: from (n, 1, size, size) float32, normalised, to (n, classes) logits.
    recipe: its settings, with `name`, `method` and `size`. calibration:
    fields of train.fit.calibrate.Calibration. training_data: as the model file
    carries it.
    """

    model: torch.nn.Module
    recipe: dict[str, Any]
    calibration: dict[str, Any]
    training_data: dict[str, Any]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write it whole or not at all."""
    import torch

    part = path.with_suffix(".part")
    values = {name: getattr(checkpoint, name) for name in ("recipe", "calibration", "training_data")}
    torch.save({"state": checkpoint.model.state_dict(), **values}, part)
    part.replace(path)


def save_fit(
    out: Path,
    model: torch.nn.Module,
    recipe: dict[str, Any],
    training_data: dict[str, Any],
    validation: dict[str, Any],
) -> Path:
    """Write validation.json and checkpoint.pt, which carries the validation's `calibration`; the checkpoint's path."""
    (out / "validation.json").write_text(json.dumps(validation, indent=1), encoding="utf-8")
    save(Checkpoint(model, recipe, validation["calibration"], training_data), out / "checkpoint.pt")
    return out / "checkpoint.pt"


def load(path: Path) -> Checkpoint:
    """The network in evaluation mode, with all that was saved beside it. Raises ConfigError."""
    import torch

    saved = torch.load(path, weights_only=True)
    model = _network(saved["recipe"], path)
    model.load_state_dict(saved.pop("state"))
    return Checkpoint(model.eval(), **saved)


def describe(frame: pd.DataFrame, manifest: Path) -> dict[str, Any]:
    """What a model was trained on: counts by class, sources, and a digest of the manifest (of a folder: its rows)."""
    return {
        "images": len(frame),
        "by_class": {str(k): int(v) for k, v in frame["class"].value_counts().sort_index().items()},
        "sources": {
            str(name): {"images": len(rows), "licences": sorted(set(rows["licence"].fillna("not stated")))}
            for name, rows in frame.groupby("dataset")
        },
        "manifest_sha256": (
            hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else digest_of(frame)
        ),
    }


def _network(recipe: dict[str, Any], path: Path) -> torch.nn.Module:
    """The network that a recipe trains, with random weights."""
    from train.networks.backbones import Probe, make_network

    if recipe["method"] == "probe":
        return Probe(recipe["backbones"], None, len(CLASSES), recipe.get("pooling", "avg"))
    if recipe["method"] == "network":
        return make_network(recipe["architecture"], len(CLASSES), pretrained_padding=recipe["start"] == "pretrained")
    if recipe["method"] == "two_step":
        from train.networks.two_step import untrained

        return untrained(recipe)
    raise ConfigError(f"{path}: trained by the method {recipe['method']!r}, which this version does not know.")
