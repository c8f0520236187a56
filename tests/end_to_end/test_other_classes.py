"""A model of other classes than the paper's: from a manifest to a label in Orthanc."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from click.testing import CliRunner

from tests.end_to_end.conftest import Running
from tests.helpers import from_picture
from tests.train.stripes import write_manifest
from train.cli import main
from train.networks.checkpoint import load
from worker.inference.classifier import Classifier

NAMES = ("hand", "knee", "skull")
RECIPE = """
method = "probe"
backbones = ["mobilenetv1"]
size = 32
views = 0
augmented_share = 0.0
decay = [0.1]
source_power = 0.5
accuracy = 0.9
seed = 1

[class.hand]
title = "Hand and wrist"
body_part_examined = "HAND"
snomed_ct = "85562004"
header_terms = ["HAND", "WRIST"]
"""


def run(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(word) for word in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_model_of_the_manifests_classes_labels_images_in_orthanc(
    own_site: Callable[..., Running], tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    manifest = write_manifest(pictures, {"here": ("dev", 52), "there": ("dev", 52), "new": ("test", 4)}, NAMES)
    (tmp_path / "limbs.toml").write_text(RECIPE)
    # Stripes of one class are near-duplicates.
    run(
        *("fit", "--manifest", manifest, "--recipe", tmp_path / "limbs.toml", "--weights", "none"),
        *("--allow-leaks", "--out", tmp_path / "fit"),
    )
    assert load(tmp_path / "fit/checkpoint.pt").classes.names == NAMES
    assert json.loads((tmp_path / "fit/validation.json").read_text())["classes"] == list(NAMES)
    model = tmp_path / "limbs.onnx"
    run(
        *("export", "--checkpoint", tmp_path / "fit/checkpoint.pt", "--manifest", manifest),
        *("--variant", "none", "--out", model),
    )
    card = Classifier(model, "cpu").card
    assert [part.name for part in card.classes] == list(NAMES)
    assert [part.title for part in card.classes] == ["Hand and wrist", "Knee", "Skull"]
    assert (card.classes[0].snomed_ct, card.classes[0].header_terms) == ("85562004", {"HAND", "WRIST"})

    site = own_site(environment={"DICOM_ROUTER_MODEL": str(model)})
    frame = pd.read_csv(manifest)
    frame = frame[frame["split"] == "test"]
    ids = site.upload(*(from_picture(pictures / file) for file in frame["file"]))
    answered: list[str] = []
    verdicts = site.verdicts(ids, 120)
    for instance, name in zip(ids, frame["class"]):
        verdict = verdicts[instance]
        assert set(verdict["probabilities"]) <= set(NAMES)  # those under 0.005 are left out
        assert max(verdict["probabilities"], key=verdict["probabilities"].get) == name
        labels = site.labels(instance)
        assert labels <= {f"bp-{name}", "bp-review"}
        answered += labels
    assert "bp-hand" in answered
