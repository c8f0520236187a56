"""Figures, against a library that everybody trusts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from train.manifest import CLASSES
from train.metrics import expected_calibration_error, f1_by_class, interval, measure


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 5, 400)


def test_recall_precision_and_f1_are_scikit_learns(truth: np.ndarray) -> None:
    random = np.random.default_rng(1)
    predicted = np.where(random.random(400) < 0.7, truth, random.integers(0, 5, 400))
    recall, precision, f1 = f1_by_class(truth, predicted, 5)
    expected = precision_recall_fscore_support(truth, predicted, labels=range(5))
    np.testing.assert_allclose(precision, expected[0])
    np.testing.assert_allclose(recall, expected[1])
    np.testing.assert_allclose(f1, expected[2])


def test_a_class_without_images_is_left_out_of_the_mean() -> None:
    f1 = f1_by_class(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)[2]
    assert np.isnan(f1[2])
    assert np.nanmean(f1) == pytest.approx(2 / 3)


def test_an_interval_holds_its_value_and_narrows_with_independent_groups() -> None:
    right = np.random.default_rng(0).random(600) < 0.9

    def share(rows: np.ndarray) -> float:
        return float(right[rows].mean())

    by_image = interval(share, np.arange(600))
    by_patient = interval(share, np.sort(np.arange(600) % 20))
    assert by_image["low"] < by_image["value"] < by_image["high"]
    assert by_image["value"] == round(float(right.mean()), 4)
    assert by_patient["high"] - by_patient["low"] > 0


def test_groups_are_drawn_whole() -> None:
    groups = np.array(["a"] * 5 + ["b"] * 5)
    counts: set[int] = set()

    def figure(rows: np.ndarray) -> float:
        counts.add(int((rows < 5).sum()))
        return 0.0

    interval(figure, groups, replicates=50)
    assert counts == {0, 5, 10}


def test_calibration_error_of_the_calibrated_is_small_and_of_the_boastful_large() -> None:
    confidence = np.random.default_rng(0).uniform(0.5, 1, 20000)
    right = np.random.default_rng(1).random(20000) < confidence
    assert expected_calibration_error(confidence, right) < 0.02
    assert expected_calibration_error(np.full(100, 0.99), np.arange(100) < 50) == pytest.approx(0.49)


def test_all_figures_of_a_perfect_and_of_a_chest_confusing_model(truth: np.ndarray) -> None:
    perfect = np.eye(5)[truth]
    ages = np.where(truth == CLASSES.index("pediatric_chest"), 4.0, np.nan)
    arguments = (truth, np.arange(400).astype(str), np.full(400, "somewhere"), ages, np.full(5, 0.5))
    figures = measure(perfect, *arguments)
    assert figures["macro_f1"]["value"] == 1
    assert figures["answered"] == {"coverage": 1.0, "accuracy": 1.0}
    assert figures["pediatric_recall_by_age"]["0-5"]["share"] == 1
    # A model that calls every chest an adult's.
    swapped = perfect.copy()
    swapped[truth == CLASSES.index("pediatric_chest")] = np.eye(5)[CLASSES.index("adult_chest")]
    figures = measure(swapped, *arguments)
    assert figures["macro_f1"]["value"] < 0.9
    assert figures["macro_f1_merged_chests"]["value"] == 1
    assert figures["adult_pediatric_balanced_accuracy"]["value"] == 0.5
    assert figures["pediatric_recall_by_age"]["0-5"]["share"] == 0
