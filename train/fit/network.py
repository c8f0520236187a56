"""The method `network`: a whole network trained end to end, as in the paper."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset

from train.data.dataset import DataOptions, Loaded, check_classes, load
from train.fit.batches import Views
from train.fit.calibrate import calibrate
from train.fit.loop import Examples, Loop, read_state
from train.fit.losses import read_teacher
from train.fit.machine import Machine, find_machine
from train.fit.probe import balanced_weights
from train.fit.recipe import NetworkRecipe, classes_named
from train.networks.backbones import load_pretrained, make_network
from train.networks.checkpoint import describe, save_fit
from worker.errors import ConfigError

log = logging.getLogger(__name__)


def fit_network(
    recipe: NetworkRecipe,
    manifest: Path,
    weights: Path | None,
    out: Path,
    options: DataOptions | None = None,
    save_minutes: float = 10,
) -> Path:
    """Train with a recipe; the checkpoint's path. An interrupted run continues from its last saved state.

    weights: folder with the pretrained weights, for recipes that start from
    them; None for random weights. out: folder for state.pt (during training),
    log.jsonl, curves.png, validation.json and checkpoint.pt.

    The network is trained on `train` and validated on `val` after each epoch (`dev` is
    divided into both, by patient). The split `test` is only checked for leaks.
    Temperature and thresholds come from the validation images. These are from
    the same sources as the training images, so the accuracy at another hospital
    is likely to be lower than the thresholds promise.
    """
    out.mkdir(parents=True, exist_ok=True)
    target = out / "checkpoint.pt"
    machine = find_machine()
    if machine.rank:  # only the first process logs, and decodes the images
        logging.getLogger("train").setLevel(logging.ERROR)
        machine.wait()
    loaded = load(manifest, out, options, recipe.size, classes_named(recipe))
    if machine.rank == 0:
        machine.wait()
    learned, judged = _parts(loaded, manifest, recipe)
    check_classes(learned, manifest, recipe.terms)
    fingerprint = fingerprint_of(recipe, learned, judged, weights)
    state = read_state(out, fingerprint)
    if state is not None and state.get("done") and target.is_file():
        log.info("the training was finished by an earlier run")
        return target
    if recipe.batch % machine.world:
        raise ConfigError(
            f"{recipe.name}: batch {recipe.batch} cannot be shared by {machine.world} processes",
            "use a multiple of their number",
        )
    log.info(f"{recipe.architecture} on {len(learned.frame)} images, judged on {len(judged.frame)}; {machine}")
    torch.manual_seed(recipe.seed)
    model = first_network(recipe, weights, len(loaded.classes))
    loop = Loop(model, examples_of(recipe, learned, judged), recipe, machine, out, fingerprint, save_minutes)
    outcome = loop.run()
    if machine.rank == 0:
        _finish(recipe, model, outcome, learned, judged, manifest, machine, out)
    loop.forget()
    return target


def first_network(recipe: NetworkRecipe, weights: Path | None, classes: int) -> torch.nn.Module:
    """The recipe's network with its initial weights; weights: as for `fit_network`."""
    model = make_network(
        recipe.architecture,
        classes,
        pretrained_padding=recipe.pretrained,
        drop_rate=recipe.dropout,
        drop_path_rate=recipe.drop_path,
    )
    if recipe.pretrained and weights is not None:
        load_pretrained(model, recipe.architecture, weights)
    return model


def _finish(
    recipe: NetworkRecipe,
    model: torch.nn.Module,
    outcome: Any,
    learned: Loaded,
    judged: Loaded,
    manifest: Path,
    machine: Machine,
    out: Path,
) -> None:
    """Calibrate, and write checkpoint.pt and validation.json."""
    classes = learned.classes
    truth = classes.indices(judged.frame["class"])
    calibration = {
        **asdict(calibrate(outcome.logits, truth, recipe.accuracy, classes.names, classes.partial)),
        "from": "validation images of the training sources",
    }
    validation = {
        "chosen_epoch": outcome.epoch,
        "images": {"train": len(learned.frame), "validation": len(judged.frame)},
        "machine": str(machine),
        "validation": outcome.history[outcome.epoch - 1],
        "calibration": calibration,
    }
    log.info(f"kept epoch {outcome.epoch}; temperature {calibration['temperature']:.3f}")
    model.load_state_dict(outcome.state)
    training_data = {
        **describe(learned.frame, manifest),
        "method": recipe.method,
        "backbones": [recipe.architecture],
        "accuracy": recipe.accuracy,
        "validation_images": len(judged.frame),
    }
    save_fit(out, model.cpu(), asdict(recipe), training_data, validation, classes)


def _parts(loaded: Loaded, manifest: Path, recipe: NetworkRecipe) -> tuple[Loaded, Loaded]:
    """The training images and the validation images.

    Images with partial labels are used for training only, and only if the recipe allows them.
    """
    parts = []
    for split, least in (("train", recipe.batch), ("val", 1)):
        part = loaded.only(split)
        if split == "val" or not recipe.partial:
            part = part.of(*part.classes)
        if len(part.frame) < least:
            raise ConfigError(
                f"{manifest}: {len(part.frame)} images in the split {split!r}",
                f"give it {least} or more",
            )
        parts.append(part)
    return parts[0], parts[1]


def examples_of(recipe: NetworkRecipe, learned: Loaded, judged: Loaded) -> Examples:
    """The training and validation images of a loop; reads all images into memory."""
    from worker.console import progress

    for part in (learned, judged):
        # The loader's processes share the images that are in memory when they start.
        with progress(part.images, len(part.images), "reading") as images:
            for _ in images():
                pass
    labels, sources = np.asarray(learned.frame["class"]), np.asarray(learned.frame["dataset"])
    return Examples(
        Views(ConcatDataset([learned.images, judged.images]), recipe),
        len(learned.frame),
        learned.classes.mask(list(labels)),
        balanced_weights(labels, sources, recipe.source_power) if recipe.balanced else None,
        read_teacher(Path(recipe.teacher), list(learned.frame["file"]), learned.classes.names)
        if recipe.teacher
        else None,
        learned.classes.indices(judged.frame["class"]),
    )


def fingerprint_of(recipe: NetworkRecipe, learned: Loaded, judged: Loaded, weights: Path | None) -> str:
    """A digest of everything that must be equal to resume an interrupted run: recipe, classes, rows and weights."""
    rows = [[list(part.frame["file"]), list(part.frame["class"])] for part in (learned, judged)]
    text = json.dumps([asdict(recipe), learned.classes.as_json(), rows, weights is not None and recipe.pretrained])
    return hashlib.sha256(text.encode()).hexdigest()
