"""From a manifest to a checkpoint: features, leave-one-source-out, the final layer, calibration."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.backbones import make_backbone
from train.calibrate import calibrate
from train.manifest import CLASSES, allowed_classes, load_images, read_manifest
from train.metrics import f1_by_class
from train.probe import Examples, balanced_weights, extract, fit_linear
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

SMALLEST_FOLD = 15
"""A source with fewer images is never held out."""
LEAST_KEPT = 50
"""A fold scores only the classes of which this many images remain to learn from."""
AUGMENTED = ("adult_chest", "pediatric_chest")
"""Classes that are told apart on augmented views too."""


@dataclass(frozen=True)
class Recipe:
    """How a model is made.

    size: side of the input in pixels. views: augmented variants of each
    image beside the plain one. augmented_share: weight of the loss on them.
    decay: L2 penalties of the linear layer to choose from.
    source_power: 0 counts every source of a class the same, 1 every image.
    accuracy: wanted among the answered images, for the thresholds.
    """

    name: str
    backbone: str
    size: int
    views: int
    augmented_share: float
    decay: tuple[float, ...]
    source_power: float
    accuracy: float
    seed: int


def read_recipe(name: str) -> Recipe:
    """A recipe that comes with the package, or a TOML file. Raises ConfigError."""
    path = Path(name)
    if path.suffix != ".toml":
        path = Path(__file__).parent / "recipes" / f"{name}.toml"
    if not path.is_file():
        known = sorted(one.stem for one in (Path(__file__).parent / "recipes").glob("*.toml"))
        raise ConfigError(f"recipe {name!r} is unknown; known are {', '.join(known)}, or name a .toml file.")
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        return Recipe(**{**values, "name": path.stem, "decay": tuple(values["decay"])})
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: {error}.") from error


def fit(recipe: Recipe, manifest: Path, weights: Path | None, out: Path, say: Callable[[str], None]) -> Path:
    """Train by a recipe on the split `dev`; the checkpoint's path.

    weights: folder with the pretrained backbones; None for random ones.
    out: folder for the features, validation.json and checkpoint.pt.

    Choices (the decay) are made by leave-one-source-out on dev; the split
    `test` is not read.
    """
    import torch

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    frame = read_manifest(manifest, "dev")
    model = make_backbone(recipe.backbone, weights, len(CLASSES))
    features = _features(recipe, frame, model, out, say)
    best, validation = _choose(recipe, frame, features, say)
    say(f"fitting the last layer on all {len(frame)} images with decay {best.decay[0]}")
    layer, bias = _fit_layer(best, frame, features, np.ones(len(frame), bool))
    model.classifier.weight.data = torch.from_numpy(layer)
    model.classifier.bias.data = torch.from_numpy(bias)
    checkpoint = {
        "state": model.state_dict(),
        "recipe": asdict(best),
        "calibration": validation["calibration"],
        "training_data": describe(frame, manifest),
    }
    (out / "validation.json").write_text(json.dumps(validation, indent=1), encoding="utf-8")
    torch.save(checkpoint, out / "checkpoint.pt")
    return out / "checkpoint.pt"


def describe(frame: pd.DataFrame, manifest: Path) -> dict[str, Any]:
    """What a model was trained on: counts by class, sources, and a digest of the manifest."""
    return {
        "images": len(frame),
        "by_class": {str(k): int(v) for k, v in frame["class"].value_counts().sort_index().items()},
        "sources": {
            str(name): {"images": len(rows), "licences": sorted(set(rows["licence"].fillna("not stated")))}
            for name, rows in frame.groupby("dataset")
        },
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
    }


def _features(recipe: Recipe, frame: pd.DataFrame, model: Any, out: Path, say: Callable[[str], None]) -> np.ndarray:
    """Features of all views, from an earlier run with the same inputs where there is one."""
    key = hashlib.sha256(
        json.dumps([recipe.backbone, recipe.size, recipe.views, recipe.seed, list(frame["file"])]).encode()
    ).hexdigest()[:16]
    path = out / f"features-{key}.npy"
    if path.is_file():
        say(f"features: {path.name}, from an earlier run")
        return np.load(path)
    say(f"features: {1 + recipe.views} views of {len(frame)} images at {recipe.size} px through {recipe.backbone}")
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task("features", total=(1 + recipe.views) * len(frame))
        images = load_images(list(frame["path"]))
        features = extract(model, images, recipe.size, recipe.views, recipe.seed, lambda n: bar.update(task, advance=n))
    np.save(path.with_suffix(".part.npy"), features)
    path.with_suffix(".part.npy").rename(path)
    return features


def _fit_layer(
    recipe: Recipe, frame: pd.DataFrame, features: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    plain = _examples(recipe, frame, features[:1], chosen)
    augmented = _examples(recipe, frame, features, chosen & frame["class"].isin(AUGMENTED).to_numpy())
    within = [CLASSES.index(one) for one in AUGMENTED]
    return fit_linear(plain, augmented, within, recipe.augmented_share, recipe.decay[0])


def _examples(recipe: Recipe, frame: pd.DataFrame, features: np.ndarray, chosen: np.ndarray) -> Examples:
    rows = np.nonzero(chosen)[0]
    labels, sources = frame["class"].to_numpy()[rows], frame["dataset"].to_numpy()[rows]
    views = len(features)
    return Examples(
        features[:, rows].reshape(views * len(rows), -1),
        np.tile(allowed_classes(list(labels)), (views, 1)),
        np.tile(balanced_weights(labels, sources, recipe.source_power), views),
    )


def _choose(
    recipe: Recipe, frame: pd.DataFrame, features: np.ndarray, say: Callable[[str], None]
) -> tuple[Recipe, dict[str, Any]]:
    """The decay with the best out-of-source macro-F1, and everything that was measured on the way."""
    results = {}
    for decay in recipe.decay:
        logits, truth, source = leave_one_source_out(replace(recipe, decay=(decay,)), frame, features)
        predicted = logits.argmax(1)
        recall, _, f1 = f1_by_class(truth, predicted, len(CLASSES))
        macro = float(np.nanmean(f1))
        by_source = {
            name: {
                "n": int((source == name).sum()),
                "accuracy": round(float((predicted == truth)[source == name].mean()), 4),
            }
            for name in np.unique(source)
        }
        results[decay] = (
            macro,
            logits,
            truth,
            {
                "macro_f1": round(macro, 4),
                "recall": {one: round(float(recall[i]), 4) for i, one in enumerate(CLASSES) if not np.isnan(recall[i])},
                "by_source": by_source,
            },
        )
        say(f"leave-one-source-out, decay {decay}: macro-F1 {macro:.4f}")
    best = max(results, key=lambda decay: results[decay][0])
    _, logits, truth, _ = results[best]
    calibration = calibrate(logits, truth, recipe.accuracy)
    say(f"temperature {calibration.temperature:.3f}, thresholds {calibration.thresholds}")
    return replace(recipe, decay=(best,)), {
        "leave_one_source_out": {str(decay): one[3] for decay, one in results.items()},
        "chosen_decay": best,
        "calibration": asdict(calibration),
    }


def leave_one_source_out(
    recipe: Recipe, frame: pd.DataFrame, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits on images of sources that were held out: (n, classes), truth (n,), source (n,).

    A fold scores only the classes that keep LEAST_KEPT images elsewhere;
    partial labels are learned from, not scored.
    """
    labels, sources = frame["class"].to_numpy(), frame["dataset"].to_numpy()
    logits, truth, source = [], [], []
    for name in np.unique(sources):
        held_out = sources == name
        if held_out.sum() < SMALLEST_FOLD:
            continue
        kept = [c for c in CLASSES if (labels[~held_out] == c).sum() >= LEAST_KEPT]
        scored = np.nonzero(held_out & np.isin(labels, kept))[0]
        if not len(scored):
            continue
        layer, bias = _fit_layer(recipe, frame, features, ~held_out)
        logits.append(features[0][scored].astype(np.float32) @ layer.T + bias)
        truth.append(np.array([CLASSES.index(one) for one in labels[scored]]))
        source.append(sources[scored])
    if not logits:
        raise ConfigError("no source can be held out: the manifest needs at least two data sets for a class.")
    return np.concatenate(logits), np.concatenate(truth), np.concatenate(source)
