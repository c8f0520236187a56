"""Temperature and thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from train.data.classes import PAPER
from train.fit.calibrate import FEWEST, calibrate, fit_temperature, least_threshold
from worker.inference.classifier import softmax


def test_the_temperature_corrects_overconfidence() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20000, 5)) * 2
    truth = np.array([random.choice(5, p=row) for row in softmax(logits)])
    assert fit_temperature(logits, truth, np.ones(20000)) == pytest.approx(1, abs=0.1)
    assert fit_temperature(logits * 3, truth, np.ones(20000)) == pytest.approx(3, abs=0.3)


def test_the_least_threshold_reaches_the_wanted_accuracy_and_not_more() -> None:
    confidence = np.linspace(1, 0.5, 101)
    right = confidence > 0.8
    threshold = least_threshold(confidence, right, np.ones(101), 0.9)
    kept = confidence >= threshold
    assert right[kept].mean() >= 0.9
    assert right[confidence >= threshold - 0.01].mean() < 0.9


def test_a_class_with_too_few_out_of_source_predictions_gets_the_threshold_of_all_classes() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(1, 5, 4 * FEWEST * 2)  # no abdomen at all
    logits = np.eye(5)[truth] * 3 + random.normal(size=(len(truth), 5))
    logits[truth == 4, 3] += 1.5  # what is taken for a spine is often none
    calibration = calibrate(logits, truth, 0.99, PAPER.names)
    assert calibration.unsupported == ["abdominal"]
    assert set(calibration.thresholds) == set(PAPER.names)
    supported = [value for name, value in calibration.thresholds.items() if name != "abdominal"]
    assert min(supported) < calibration.thresholds["abdominal"] < max(supported)
    confidence = softmax(logits, calibration.temperature)
    answered = confidence.max(1) >= calibration.thresholds["abdominal"]
    assert (confidence.argmax(1) == truth)[answered].mean() == pytest.approx(0.99, abs=0.01)
