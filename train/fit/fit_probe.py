"""The method `probe`: features of frozen networks, choice of the decay, calibration, and the last layer."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from train.data.dataset import DataOptions, Loaded, check_classes, load
from train.fit.probe import extract
from train.fit.recipe import ProbeRecipe, classes_named
from train.fit.validate import Dataset, choose
from train.networks.backbones import Probe
from train.networks.checkpoint import describe, save_fit

log = logging.getLogger(__name__)


def fit_probe(
    recipe: ProbeRecipe,
    manifest: Path,
    weights: Path | None,
    out: Path,
    options: DataOptions | None = None,
) -> Path:
    """Train with a recipe on the splits dev, train and val; the checkpoint's path.

    weights: folder with the pretrained backbones; None for random weights.
    out: folder for the features, validation.json and checkpoint.pt.

    The decay is chosen on train and val together (see train.fit.validate). The
    split `test` is only checked for leaks.
    """
    import torch

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    loaded = load(manifest, out, options, recipe.size, classes_named(recipe)).only("dev", "train", "val")
    check_classes(loaded, manifest, recipe.terms)
    frame = loaded.frame
    model = Probe(recipe.backbones, weights, len(loaded.classes), recipe.pooling)
    features = joined_features(recipe, loaded, model, out)
    data = Dataset(frame, features, loaded.classes, recipe.source_power, recipe.augmented_share)
    decay, validation = choose(data, recipe.decay, recipe.accuracy)
    fit_last_layer(model, data, decay)
    training_data = {**describe(frame, manifest), "backbones": list(recipe.backbones), "accuracy": recipe.accuracy}
    return save_fit(out, model, {**asdict(recipe), "decay": [decay]}, training_data, validation, loaded.classes)


def joined_features(recipe: ProbeRecipe, loaded: Loaded, model: Probe, out: Path) -> np.ndarray:
    """(1 + views, n, f) float16: the concatenated features of all backbones."""
    parts = [
        _features(name, recipe, loaded, backbone, out) for name, backbone in zip(recipe.backbones, model.backbones)
    ]
    return np.concatenate(parts, axis=2)


def fit_last_layer(model: Probe, data: Dataset, decay: float) -> None:
    """Fit the last layer on all images and set it in the model."""
    import torch

    log.info(f"fitting the last layer on all {len(data.frame)} images with decay {decay}")
    layer, bias = data.fit_layer(np.ones(len(data.frame), bool), decay)
    model.classifier.weight.data = torch.from_numpy(layer)
    model.classifier.bias.data = torch.from_numpy(bias)


def _features(name: str, recipe: ProbeRecipe, loaded: Loaded, backbone: Any, out: Path) -> np.ndarray:
    """One backbone's features of all views; read from a file where an earlier run had the same inputs."""
    tensors = backbone.state_dict().values()
    weights = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()
    inputs = [name, weights, recipe.pooling, recipe.size, recipe.views, recipe.seed, list(loaded.frame["file"])]
    key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]
    path = out / f"features-{key}.npy"
    if path.is_file():
        log.info(f"features: {path.name}, from an earlier run")
        return np.load(path)
    log.info(f"features: {1 + recipe.views} views of {len(loaded.images)} images at {recipe.size} px through {name}")
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("features", total=(1 + recipe.views) * len(loaded.images))
        features = extract(
            backbone, loaded.images, recipe.size, recipe.views, recipe.seed, lambda n: bar.update(task, advance=n)
        )
    np.save(path.with_suffix(".part.npy"), features)
    path.with_suffix(".part.npy").rename(path)
    return features
