"""Metrics, compared with scikit-learn."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from train.data.classes import PAPER
from train.measure.bootstrap import resample, span
from train.measure.curves import reliability, risk_coverage
from train.measure.metrics import expected_calibration_error, f1_by_class, measure


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 5, 400)


def random_probabilities(n: int, classes: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), n)


def arguments(truth: np.ndarray, classes: int = 5) -> tuple[np.ndarray, ...]:
    """Truth, groups of two images each, one data set, no age, thresholds of a half."""
    n = len(truth)
    return truth, np.arange(n) // 2, np.full(n, "somewhere"), np.full(n, np.nan), np.full(classes, 0.5)


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


def test_a_replicate_draws_whole_groups(truth: np.ndarray) -> None:
    """The matrix product gives the sums of a loop over replicates."""
    probabilities, groups = random_probabilities(400, 5), np.arange(400) // 3
    predicted = probabilities.argmax(1)
    random, values = np.random.default_rng(0), []
    for _ in range(1000):
        drawn = random.integers(0, groups.max() + 1, groups.max() + 1)
        rows = np.concatenate([np.nonzero(groups == patient)[0] for patient in drawn])
        values.append(f1_score(truth[rows], predicted[rows], average="macro"))
    low, high = np.percentile(values, (2.5, 97.5))
    measured = measure(probabilities, truth, groups, *arguments(truth)[2:], PAPER.names)["macro_f1"]
    expected = {"value": f1_score(truth, predicted, average="macro"), "low": low, "high": high}
    assert measured == pytest.approx(expected, abs=6e-5)


def test_patients_with_many_images_widen_the_interval() -> None:
    right = (np.random.default_rng(0).random(600) < 0.9)[:, None].astype(float)
    sums = resample(np.ones((10, 1)), np.array(["a"] * 5 + ["b"] * 5), replicates=50)
    assert set(np.unique(sums)) == {10}
    assert set(np.unique(resample(np.arange(10)[:, None] < 5, np.arange(10) // 5, replicates=50))) == {0, 5, 10}
    alike = np.repeat(right[:30], 20, axis=0)
    by_image, by_patient = (
        span(resample(alike, groups)[:, 0] / 600) for groups in (np.arange(600), np.arange(600) // 20)
    )
    assert by_image is not None
    assert by_patient is not None
    assert by_patient["low"] < by_image["low"] < by_image["value"] < by_image["high"] < by_patient["high"]


def test_many_groups_are_drawn_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, groups = np.random.default_rng(0).random((50, 3)), np.arange(50)
    whole = resample(columns, groups, replicates=20)
    monkeypatch.setattr("train.measure.bootstrap.DRAWS_AT_ONCE", 120)
    np.testing.assert_allclose(resample(columns, groups, replicates=20), whole)


def test_the_figures_of_thousands_of_images_are_fast() -> None:
    truth = np.random.default_rng(0).integers(0, 5, 5000)
    probabilities = random_probabilities(5000, 5)
    start = time.process_time()
    measure(probabilities, *arguments(truth), PAPER.names)
    assert time.process_time() - start < 10  # a loop over replicates and classes takes minutes


def test_the_calibration_error_is_small_for_calibrated_and_large_for_overconfident_predictions() -> None:
    confidence = np.random.default_rng(0).uniform(0.5, 1, 20000)
    right = np.random.default_rng(1).random(20000) < confidence
    assert expected_calibration_error(confidence, right) < 0.02
    assert expected_calibration_error(np.full(100, 0.99), np.arange(100) < 50) == pytest.approx(0.49)


def test_reliability_has_the_accuracy_of_each_bin_with_images() -> None:
    confidence = np.array([0.95, 0.96, 0.55, 1.0])
    bins = reliability(confidence, np.array([True, False, True, True]))["bins"]
    assert [(row["n"], row["accuracy"]) for row in bins] == [(1, 1.0), (3, 0.6667)]


def test_risk_rises_with_coverage_and_its_mean_is_the_area() -> None:
    confidence, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    found = risk_coverage(confidence, right)
    assert found["curve"] == [[0.25, 0], [0.5, 0], [0.75, 0.33333], [1, 0.25]]
    assert found["aurc"] == pytest.approx((1 / 3 + 1 / 4) / 4, abs=1e-5)


def test_images_of_equal_confidence_are_answered_together_in_any_order() -> None:
    right = np.array([True, False, True, False])
    curves = [risk_coverage(np.full(4, 0.9), order)["curve"] for order in (right, right[::-1], np.sort(right))]
    assert curves[0] == curves[1] == curves[2]
    assert [risk for _, risk in curves[0]] == [0.5] * 4


def test_all_figures_of_a_perfect_and_of_a_chest_confusing_model(truth: np.ndarray) -> None:
    perfect = np.eye(5)[truth]
    ages = np.where(truth == PAPER.index("pediatric_chest"), 4.0, np.nan)
    given = (truth, np.arange(400).astype(str), np.full(400, "somewhere"), ages, np.full(5, 0.5))
    figures = measure(perfect, *given, PAPER.names)
    assert figures["macro_f1"]["value"] == 1
    assert figures["answered"] == {"coverage": 1.0, "accuracy": 1.0}
    assert figures["pediatric_recall_by_age"]["0-5"]["share"] == 1
    # A model that predicts adult for every chest.
    swapped = perfect.copy()
    swapped[truth == PAPER.index("pediatric_chest")] = np.eye(5)[PAPER.index("adult_chest")]
    figures = measure(swapped, *given, PAPER.names)
    assert figures["macro_f1"]["value"] < 0.9
    assert figures["macro_f1_merged_chests"]["value"] == 1
    assert figures["adult_pediatric_balanced_accuracy"]["value"] == 0.5
    assert figures["pediatric_recall_by_age"]["0-5"]["share"] == 0


def test_merged_chests_are_one_class_in_any_order_of_classes(truth: np.ndarray) -> None:
    probabilities = random_probabilities(400, 5)
    turned = [2, 0, 4, 1, 3]  # the child before the adult
    names = [PAPER.names[index] for index in turned]
    merged = np.where(np.arange(5) == PAPER.index("pediatric_chest"), PAPER.index("adult_chest"), np.arange(5))
    expected = f1_score(merged[truth], merged[probabilities.argmax(1)], average="macro")
    place = np.argsort(turned)
    for given, classes in (((probabilities, truth), PAPER.names), ((probabilities[:, turned], place[truth]), names)):
        figures = measure(given[0], given[1], *arguments(truth)[1:], classes)
        assert figures["macro_f1_merged_chests"]["value"] == pytest.approx(expected, abs=1e-4)


def test_a_class_list_without_both_chests_has_no_figures_of_chests() -> None:
    truth = np.random.default_rng(0).integers(0, 3, 90)
    figures = measure(random_probabilities(90, 3), *arguments(truth, 3), ("hand", "foot", "skull"))
    assert figures["confusion"]["classes"] == ["hand", "foot", "skull"]
    assert not {"macro_f1_merged_chests", "pediatric_recall_by_age"} & set(figures)
    assert set(figures["per_class"]["hand"]["intervals"]) == {"recall", "precision", "f1"}


def test_figures_that_were_not_measured_are_none_and_not_nan() -> None:
    truth = np.array([0, 0, 0, 3, 3])  # no chest, no `other`
    figures = measure(np.eye(5)[truth] * 0.4, *arguments(truth), PAPER.names)
    assert figures["adult_pediatric_balanced_accuracy"] is None
    assert figures["answered"] == {"coverage": 0.0, "accuracy": None}
    assert figures["per_class"]["other"]["f1"] is figures["per_class"]["other"]["intervals"]["f1"] is None
    assert figures["intervals"]["accuracy"] is None
