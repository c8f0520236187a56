"""Checkpoints and model files of earlier versions."""

from __future__ import annotations

from pathlib import Path

import torch

from train.data.classes import PAPER, ClassSet
from train.measure.modelfile import read_facts
from train.networks.backbones import Probe
from train.networks.checkpoint import Checkpoint, load, save
from worker.inference.classifier import PACKAGED_MODEL

RECIPE = {"name": "old", "method": "probe", "backbones": ["mobilenetv1"], "size": 64}


def test_a_checkpoint_keeps_its_classes_and_without_classes_has_those_of_the_paper(tmp_path: Path) -> None:
    limbs = ClassSet(("hand", "left_knee", "right_knee"), {"knee": ("left_knee", "right_knee")})
    save(Checkpoint(Probe(["mobilenetv1"], None, 3), RECIPE, {}, {}, limbs), tmp_path / "new.pt")
    assert load(tmp_path / "new.pt").classes == limbs
    before = {"state": Probe(["mobilenetv1"], None, 5).state_dict(), "recipe": RECIPE}
    torch.save({**before, "calibration": {}, "training_data": {}}, tmp_path / "old.pt")
    assert load(tmp_path / "old.pt").classes == PAPER


def test_a_model_file_without_partial_labels_has_those_of_the_paper() -> None:
    assert read_facts(PACKAGED_MODEL).classes == PAPER
