"""The threshold of a node above classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from tests.train.measure.test_report import write_model
from train.cli import main
from train.data.classes import PAPER
from train.export.tree import FEWEST_IMAGES, threshold_of
from train.fit.calibrate import LEAST_OF_SUMS
from worker.errors import ConfigError

CHESTS = PAPER.partial["chest"]


def rows(*sums: float) -> np.ndarray:
    """(n, 5): the sum of the chests, shared by both; the rest is another part's."""
    chest = np.array(sums)[:, None]
    return chest * [[0, 0.5, 0.5, 0, 0]] + (1 - chest) * [[0, 0, 0, 0, 1]]


def test_the_threshold_of_a_sum_lets_through_the_wanted_share_of_right_answers() -> None:
    chests, others = np.linspace(0.99, 0.999, 200), np.full(200, 0.02)
    others[:20] = np.linspace(0.97, 0.98, 20)  # taken for chests
    labels = np.array(["adult_chest", "pediatric_chest", "chest", "chest"] * 50 + ["other"] * 200)
    threshold, support = threshold_of("chest", CHESTS, PAPER.names, rows(*chests, *others), labels, 0.995)
    assert threshold == pytest.approx(0.98)  # one wrong answer beside 200 right ones
    assert (support["images"], support["others"]) == (200, 200)
    assert (support["answered"], support["right"]) == (1.0, 0.995)


def test_where_all_are_right_the_threshold_is_the_least_that_is_allowed() -> None:
    probabilities = rows(*[0.6] * 50, *[0.99] * 150, *[0.01] * 200)
    labels = np.array(["chest"] * 200 + ["spine"] * 200)
    threshold, support = threshold_of("chest", CHESTS, PAPER.names, probabilities, labels, 0.995)
    assert threshold == LEAST_OF_SUMS
    assert support["answered"] == 0.75


@pytest.mark.parametrize(("chests", "others"), [(FEWEST_IMAGES - 1, 300), (300, FEWEST_IMAGES - 1)])
def test_too_few_images_set_no_threshold(chests: int, others: int) -> None:
    labels = np.array(["chest"] * chests + ["other"] * others)
    probabilities = rows(*[0.99] * chests, *[0.01] * others)
    with pytest.raises(ConfigError, match=f"'chest' has {chests} images, and {others} others"):
        threshold_of("chest", CHESTS, PAPER.names, probabilities, labels, 0.995)


def test_the_command_refuses_a_manifest_with_too_few_images_and_leaves_the_model_alone(tmp_path: Path) -> None:
    model = write_model(tmp_path / "five.onnx", PAPER.names)
    before = onnx.load(model).SerializeToString()
    (tmp_path / "manifest.csv").write_text("file,class,split,dataset\nnone.png,chest,dev,clinic\n")
    arguments = ["tree", "--model", str(model), "--manifest", str(tmp_path / "manifest.csv")]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert "'chest' has 0 images" in refused.output
    assert onnx.load(model).SerializeToString() == before
