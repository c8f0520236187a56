"""The method `network`: a whole network trained end to end, as the paper does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from train.backbones import load_pretrained, make_network
from train.batches import Views
from train.calibrate import calibrate
from train.checkpoint import Checkpoint, describe, save
from train.loop import Examples, Loop, read_state
from train.losses import read_teacher
from train.machine import Machine, find_machine
from train.manifest import CLASSES, allowed_classes, load_images, read_manifest
from train.probe import balanced_weights
from train.recipe import NetworkRecipe
from train.split import split_by_patient
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

SHARES = {"train": 0.82, "val": 0.18}
"""How `dev` is divided, by patient: 0.70 to 0.15, as the paper divides what is not `test`."""


def fit_network(
    recipe: NetworkRecipe,
    manifest: Path,
    weights: Path | None,
    out: Path,
    say: Callable[[str], None],
    save_minutes: float = 10,
) -> Path:
    """Train by a recipe; the checkpoint's path. A killed run goes on where it was saved last.

    weights: folder with the pretrained weights, for recipes that start from
    them; None for random ones. out: folder for state.pt (while it runs),
    log.jsonl, curves.png, validation.json and checkpoint.pt.

    The split `test` is not read. Temperature and thresholds come from the
    validation images, which are of the same sources as the training images:
    they promise more than another hospital's images will hold.
    """
    out.mkdir(parents=True, exist_ok=True)
    target = out / "checkpoint.pt"
    learned, judged = _rows(manifest, recipe)
    fingerprint = _fingerprint(recipe, learned, judged, weights)
    state = read_state(out, fingerprint)
    if state is not None and state.get("done") and target.is_file():
        say("the training was finished by an earlier run")
        return target
    machine = find_machine()
    if machine.rank:  # one process speaks for all
        say = _nothing
    if recipe.batch % machine.world:
        raise ConfigError(f"{recipe.name}: batch {recipe.batch} cannot be shared by {machine.world} processes.")
    say(f"{recipe.architecture} on {len(learned)} images, judged on {len(judged)}; {machine}")
    torch.manual_seed(recipe.seed)
    model = make_network(
        recipe.architecture,
        len(CLASSES),
        pretrained_padding=recipe.pretrained,
        drop_rate=recipe.dropout,
        drop_path_rate=recipe.drop_path,
    )
    if recipe.pretrained and weights is not None:
        load_pretrained(model, recipe.architecture, weights)
    loop = Loop(model, _examples(recipe, learned, judged), recipe, machine, out, fingerprint, save_minutes, say)
    outcome = loop.run()
    if machine.rank == 0:
        _finish(recipe, model, outcome, learned, judged, manifest, machine, out, say)
    loop.forget()
    return target


def _nothing(_: str) -> None:
    pass


def _finish(
    recipe: NetworkRecipe,
    model: torch.nn.Module,
    outcome: Any,
    learned: pd.DataFrame,
    judged: pd.DataFrame,
    manifest: Path,
    machine: Machine,
    out: Path,
    say: Callable[[str], None],
) -> None:
    """Calibrate and write what export reads."""
    truth = _truth(judged)
    calibration = {
        **asdict(calibrate(outcome.logits, truth, recipe.accuracy)),
        "from": "validation images of the training sources",
    }
    validation = {
        "chosen_epoch": outcome.epoch,
        "images": {"train": len(learned), "validation": len(judged)},
        "machine": str(machine),
        "validation": outcome.history[outcome.epoch - 1],
        "calibration": calibration,
    }
    say(f"kept epoch {outcome.epoch}; temperature {calibration['temperature']:.3f}")
    (out / "validation.json").write_text(json.dumps(validation, indent=1), encoding="utf-8")
    model.load_state_dict(outcome.state)
    training_data = {
        **describe(learned, manifest),
        "backbones": [recipe.architecture],
        "accuracy": recipe.accuracy,
        "validation_images": len(judged),
    }
    save(Checkpoint(model.cpu(), asdict(recipe), calibration, training_data), out / "checkpoint.pt")


def _rows(manifest: Path, recipe: NetworkRecipe) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is learned from and what judges: the splits `train` and `val`, or `dev` divided by patient.

    Images that judge have one class; images to learn from too, unless the recipe takes partial labels.
    """
    frame = read_manifest(manifest)
    frame = frame[frame["split"] != "test"].reset_index(drop=True)
    splits = set(frame["split"])
    if not splits & {"dev", "train"}:
        raise ConfigError(f"{manifest}: no row has split 'dev' or 'train'; there is nothing to learn from.")
    if "val" in splits:
        judged, learned = frame["split"] == "val", frame["split"].isin(("dev", "train"))
    else:
        # All of it, also what is left out below: other recipes divide the same patients the same way.
        frame = frame[frame["split"].isin(("dev", "train"))].reset_index(drop=True)
        part = split_by_patient(frame, SHARES, recipe.seed)
        judged, learned = part == "val", part == "train"
    plain = frame["class"].isin(CLASSES)
    learned = learned & (plain | recipe.partial)
    learned, judged = (frame[one].reset_index(drop=True) for one in (learned, judged & plain))
    for name, rows, least in (("training", learned, recipe.batch), ("validation", judged, 1)):
        if len(rows) < least:
            raise ConfigError(f"{manifest}: {len(rows)} {name} images; at least {least} are needed.")
    return learned, judged


def _examples(recipe: NetworkRecipe, learned: pd.DataFrame, judged: pd.DataFrame) -> Examples:
    from rich.progress import track

    labels = np.asarray(learned["class"])
    paths = [*learned["path"], *judged["path"]]
    return Examples(
        Views([image for one in track(paths, "reading") for image in load_images([one])], recipe),
        len(learned),
        allowed_classes(list(labels)),
        balanced_weights(labels, np.asarray(learned["dataset"]), recipe.source_power) if recipe.balanced else None,
        read_teacher(Path(recipe.teacher), list(learned["file"])) if recipe.teacher else None,
        _truth(judged),
    )


def _truth(frame: pd.DataFrame) -> np.ndarray:
    return np.array([CLASSES.index(one) for one in frame["class"]], int)


def _fingerprint(recipe: NetworkRecipe, learned: pd.DataFrame, judged: pd.DataFrame, weights: Path | None) -> str:
    """Of all that a resumed run must have in common with the run that was killed."""
    rows = [[list(one["file"]), list(one["class"])] for one in (learned, judged)]
    text = json.dumps([asdict(recipe), rows, weights is not None and recipe.pretrained])
    return hashlib.sha256(text.encode()).hexdigest()
