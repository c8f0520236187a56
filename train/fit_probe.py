"""The method `probe`: features of frozen networks, choice and calibration, the final layer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.backbones import Probe
from train.checkpoint import Checkpoint, describe, save
from train.manifest import CLASSES, load_images, read_manifest
from train.probe import extract
from train.recipe import ProbeRecipe
from train.validate import Dataset, choose

if TYPE_CHECKING:
    import pandas as pd


def fit_probe(recipe: ProbeRecipe, manifest: Path, weights: Path | None, out: Path, say: Callable[[str], None]) -> Path:
    """Train by a recipe on the split `dev`; the checkpoint's path.

    weights: folder with the pretrained backbones; None for random ones.
    out: folder for the features, validation.json and checkpoint.pt.

    The decay is chosen on dev (see train.validate); the split `test` is not read.
    """
    import torch

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    frame = read_manifest(manifest, "dev")
    model = Probe(recipe.backbones, weights, len(CLASSES))
    features = np.concatenate(
        [
            _features(name, recipe, frame, backbone, out, say)
            for name, backbone in zip(recipe.backbones, model.backbones)
        ],
        axis=2,
    )
    data = Dataset(frame, features, recipe.source_power, recipe.augmented_share)
    decay, validation = choose(data, recipe.decay, recipe.accuracy, say)
    say(f"fitting the last layer on all {len(frame)} images with decay {decay}")
    layer, bias = data.fit_layer(np.ones(len(frame), bool), decay)
    model.classifier.weight.data = torch.from_numpy(layer)
    model.classifier.bias.data = torch.from_numpy(bias)
    training_data = {**describe(frame, manifest), "backbones": list(recipe.backbones), "accuracy": recipe.accuracy}
    (out / "validation.json").write_text(json.dumps(validation, indent=1), encoding="utf-8")
    settings = {**asdict(recipe), "decay": [decay]}
    save(Checkpoint(model, settings, validation["calibration"], training_data), out / "checkpoint.pt")
    return out / "checkpoint.pt"


def _features(
    name: str, recipe: ProbeRecipe, frame: pd.DataFrame, backbone: Any, out: Path, say: Callable[[str], None]
) -> np.ndarray:
    """One backbone's features of all views, from an earlier run with the same inputs where there is one."""
    key = hashlib.sha256(
        json.dumps([name, recipe.size, recipe.views, recipe.seed, list(frame["file"])]).encode()
    ).hexdigest()[:16]
    path = out / f"features-{key}.npy"
    if path.is_file():
        say(f"features: {path.name}, from an earlier run")
        return np.load(path)
    say(f"features: {1 + recipe.views} views of {len(frame)} images at {recipe.size} px through {name}")
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task("features", total=(1 + recipe.views) * len(frame))
        images = load_images(list(frame["path"]))
        features = extract(
            backbone, images, recipe.size, recipe.views, recipe.seed, lambda n: bar.update(task, advance=n)
        )
    np.save(path.with_suffix(".part.npy"), features)
    path.with_suffix(".part.npy").rename(path)
    return features
