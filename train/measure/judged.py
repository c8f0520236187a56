"""Predictions of a model for the images of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Judged:
    """The images of a split and the model's predictions.

    frame: rows of the manifest. logits: (n, classes). probabilities: (n,
    classes) calibrated. truth, predicted: (n,) class indices. thresholds:
    (classes,). answered: (n,) booleans, whether the confidence reaches the threshold of the predicted class.
    strange: (n,) booleans, whether the picture does not look like an X-ray.
    """

    frame: pd.DataFrame
    logits: np.ndarray
    probabilities: np.ndarray
    truth: np.ndarray
    thresholds: np.ndarray
    strange: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(1)

    @property
    def confidence(self) -> np.ndarray:
        return self.probabilities.max(1)

    @property
    def answered(self) -> np.ndarray:
        return self.confidence >= self.thresholds[self.predicted]
