"""Checkpoints: the weights and metadata that `fit` writes and `export` reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.data.classes import PAPER, ClassSet
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
    fields of train.fit.calibrate.Calibration. training_data: as written to the model
    file. classes: of the outputs, in their order.
    """

    model: torch.nn.Module
    recipe: dict[str, Any]
    calibration: dict[str, Any]
    training_data: dict[str, Any]
    classes: ClassSet = PAPER


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically."""
    import torch

    part = path.with_suffix(".part")
    values = {name: getattr(checkpoint, name) for name in ("recipe", "calibration", "training_data")}
    torch.save({"state": checkpoint.model.state_dict(), **values, **checkpoint.classes.as_json()}, part)
    part.replace(path)


def save_fit(
    out: Path,
    model: torch.nn.Module,
    recipe: dict[str, Any],
    training_data: dict[str, Any],
    validation: dict[str, Any],
    classes: ClassSet,
) -> Path:
    """Write validation.json and checkpoint.pt with the validation's `calibration`; the checkpoint's path."""
    written = {**validation, **classes.as_json()}
    (out / "validation.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    save(Checkpoint(model, recipe, validation["calibration"], training_data, classes), out / "checkpoint.pt")
    return out / "checkpoint.pt"


def load(path: Path) -> Checkpoint:
    """The saved checkpoint, with its network in evaluation mode. Raises ConfigError for an unknown method."""
    import torch

    saved = torch.load(path, weights_only=True)
    classes = classes_in(saved)
    model = _network(saved["recipe"], classes, path)
    model.load_state_dict(saved["state"])
    return Checkpoint(model.eval(), saved["recipe"], saved["calibration"], saved["training_data"], classes)


def classes_in(saved: Mapping[str, Any]) -> ClassSet:
    """The classes in a dictionary with the keys of ClassSet.as_json; the paper's classes where it has none."""
    if "classes" not in saved:
        return PAPER
    return ClassSet(tuple(saved["classes"]), {key: tuple(value) for key, value in saved["partial_labels"].items()})


def describe(frame: pd.DataFrame, manifest: Path) -> dict[str, Any]:
    """A description of the training data: counts by class, sources, and a digest of the manifest (or folder's rows)."""
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


def _network(recipe: dict[str, Any], classes: ClassSet, path: Path) -> torch.nn.Module:
    """The network that a recipe trains, with random weights."""
    from train.networks.backbones import Probe, make_network

    if recipe["method"] == "probe":
        return Probe(recipe["backbones"], None, len(classes), recipe.get("pooling", "avg"))
    if recipe["method"] == "network":
        return make_network(recipe["architecture"], len(classes), pretrained_padding=recipe["start"] == "pretrained")
    if recipe["method"] == "two_step":
        from train.networks.two_step import untrained

        return untrained(recipe, classes)
    raise ConfigError(
        f"{path}: trained by the unknown method {recipe['method']!r}", "export it with the version that trained it"
    )
