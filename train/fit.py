"""From a manifest to a checkpoint: features, choice and calibration, the final layer."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from train.backbones import Probe
from train.checkpoint import Checkpoint, save
from train.dataset import DataOptions, Loaded, load
from train.manifest import CLASSES, digest_of
from train.probe import extract
from train.validate import Dataset, choose
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Recipe:
    """How a model is made.

    method: `probe`, a linear layer on frozen networks. backbones: names of
    the networks whose features are joined. size: side of the input in pixels.
    views: augmented variants of each image beside the plain one.
    augmented_share: weight of the loss on them. decay: L2 penalties of the
    linear layer to choose from. source_power: 0 counts every source of
    a class the same, 1 every image. accuracy: wanted among the answered
    images, for the thresholds.
    """

    name: str
    method: Literal["probe"]
    backbones: tuple[str, ...]
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
        return Recipe(
            **{**values, "name": path.stem, "decay": tuple(values["decay"]), "backbones": tuple(values["backbones"])}
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: {error}.") from error


def fit(
    recipe: Recipe,
    manifest: Path,
    weights: Path | None,
    out: Path,
    say: Callable[[str], None],
    options: DataOptions | None = None,
) -> Path:
    """Train by a recipe on all that is not in the split `test`; the checkpoint's path.

    weights: folder with the pretrained backbones; None for random ones.
    out: folder for the features, validation.json and checkpoint.pt.

    The decay is chosen on train and val together (see train.validate); of the
    split `test` nothing is used but the check that it is apart.
    """
    import torch

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    loaded = load(manifest, out, say, options, recipe.size).only("dev", "train", "val")
    frame = loaded.frame
    model = Probe(recipe.backbones, weights, len(CLASSES))
    features = np.concatenate(
        [
            _features(name, recipe, loaded, backbone, out, say)
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


def _features(
    name: str, recipe: Recipe, loaded: Loaded, backbone: Any, out: Path, say: Callable[[str], None]
) -> np.ndarray:
    """One backbone's features of all views, from an earlier run with the same inputs where there is one."""
    key = hashlib.sha256(
        json.dumps([name, recipe.size, recipe.views, recipe.seed, list(loaded.frame["file"])]).encode()
    ).hexdigest()[:16]
    path = out / f"features-{key}.npy"
    if path.is_file():
        say(f"features: {path.name}, from an earlier run")
        return np.load(path)
    say(f"features: {1 + recipe.views} views of {len(loaded.images)} images at {recipe.size} px through {name}")
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task("features", total=(1 + recipe.views) * len(loaded.images))
        features = extract(
            backbone, loaded.images, recipe.size, recipe.views, recipe.seed, lambda n: bar.update(task, advance=n)
        )
    np.save(path.with_suffix(".part.npy"), features)
    path.with_suffix(".part.npy").rename(path)
    return features
