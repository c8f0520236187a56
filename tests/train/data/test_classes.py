"""The classes of a model, and the meaning of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from train.data.classes import PAPER, ClassSet, classes_of
from train.data.from_orthanc import read_wanted
from train.data.manifest import read_manifest
from train.data.terms import terms_of
from worker.errors import ConfigError


def test_labels_of_the_papers_classes_give_all_five_in_its_order() -> None:
    assert classes_of(["Adults", "spine", "chest", "Abdomen"]) == PAPER
    assert [PAPER.named(text) for text in ("Adult Chest", "adults", "SPINE", "paediatric", "chest", "knee")] == [
        *("adult_chest", "adult_chest", "spine", "pediatric_chest", "chest"),
        None,
    ]


def test_other_labels_are_the_classes_whatever_their_order() -> None:
    labels = ["skull", "Left knee", "left_knee", "hand", "hand"]
    classes = classes_of(labels)
    assert classes.names == classes_of(labels[::-1]).names == ("Left_knee", "hand", "skull")
    assert [classes.named(label) for label in labels] == ["skull", "Left_knee", "Left_knee", "hand", "hand"]
    assert classes_of(classes) == classes
    assert classes_of(["spine", "hand"]).names == ("hand", "spine")


def test_a_partial_label_admits_its_classes() -> None:
    classes = ClassSet(("hand", "left_knee", "right_knee"), {"knee": ("left_knee", "right_knee")})
    np.testing.assert_array_equal(classes.mask(["knee", "hand"]), [[0, 1, 1], [1, 0, 0]])
    assert classes.pair == ("left_knee", "right_knee")
    assert classes.only(["hand", "left_knee"]) == ClassSet(("hand", "left_knee"))
    assert ClassSet(("hand", "foot")).pair is None


@pytest.mark.parametrize(
    ("names", "partial", "message"),
    [
        (("hand", "failed"), {}, "class 'failed' is reserved"),
        (("hand", "knee joint"), {}, "class 'knee joint' cannot be a label; use 1 to 40 of"),
        (("hand", "x" * 41), {}, "cannot be a label"),
        (("hand", "hand"), {}, "class 'hand' is named twice"),
        (("hand", "foot"), {"hand": ("hand", "foot")}, "class 'hand' is named twice"),
        (
            ("hand", "foot"),
            {"limb": ("hand", "leg")},
            "partial label 'limb': 'leg' is not a class; name some of hand, foot",
        ),
        (("hand", "foot"), {"limb": ("hand",)}, "partial label 'limb' names fewer than two classes"),
    ],
)
def test_invalid_class_names_are_refused(
    names: tuple[str, ...], partial: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ClassSet(names, partial)


def test_a_class_is_described_by_the_recipe_and_by_its_name() -> None:
    assert terms_of("left_knee") == {
        "title": "Left knee",
        "body_part_examined": "",
        "snomed_ct": "",
        "header_terms": ["LEFT KNEE"],
    }
    described = terms_of("knee", {"title": "Knee joint", "snomed_ct": "72696002", "body_part_examined": None})
    assert (described["title"], described["snomed_ct"], described["header_terms"]) == (
        "Knee joint",
        "72696002",
        ["KNEE"],
    )
    assert terms_of("spine")["body_part_examined"] == "SPINE"


def test_a_label_or_metadata_value_in_orthanc_can_stand_for_any_class() -> None:
    assert read_wanted("label", "teaching=Left knee", "bp-").meaning == "Left_knee"
    assert read_wanted("metadata", "5999=x=hand", "bp-").meaning == "hand"
    assert read_wanted("label", "bp-adult_chest", "bp-").meaning == "adult_chest"
    with pytest.raises(ConfigError, match=r"'teaching' is none of .*; put the class behind it, as in teaching=hand"):
        read_wanted("label", "teaching", "bp-")
    with pytest.raises(ConfigError, match="class 'failed' is reserved"):
        read_wanted("label", "teaching=failed", "bp-")


def test_a_folder_of_other_classes_is_a_manifest(tmp_path: Path) -> None:
    for file in ("train/Hand/a.png", "train/left knee/b.png", "val/hand/c.png"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    frame = read_manifest(tmp_path)
    assert list(zip(frame["split"], frame["class"])) == [("train", "Hand"), ("train", "left_knee"), ("val", "Hand")]
    chosen = ClassSet(("hand", "knee"))
    with pytest.raises(ConfigError, match="unknown class 'left knee'; known are hand, knee: correct the label"):
        read_manifest(tmp_path, classes=chosen)
