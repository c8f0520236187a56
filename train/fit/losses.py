"""Loss functions, and the probabilities of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from worker.errors import ConfigError


def label_loss(logits: torch.Tensor, allowed: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Mean cross-entropy; for a label that admits several classes, of the sum of their probabilities.

    logits: (n, classes). allowed: (n, classes) 0/1. smoothing: share of the
    target that is spread over all classes, for labels that admit a single class
    (Szegedy et al. 2016).
    """
    log_p = torch.log_softmax(logits.float(), 1)
    loss = -torch.logsumexp(log_p.masked_fill(allowed == 0, -torch.inf), 1)
    if smoothing:
        smooth = (1 - smoothing) * loss - smoothing * log_p.mean(1)
        loss = torch.where(allowed.sum(1) == 1, smooth, loss)
    return loss.mean()


def read_teacher(path: Path, files: list[str], classes: Sequence[str]) -> np.ndarray:
    """(n, classes) float32: a teacher's probabilities for each of `files`.

    path: a CSV with the column `file` and one for each class.

    Raises ConfigError where a column or a file is missing.
    """
    import pandas as pd

    if not path.is_file():
        raise ConfigError(f"{path}: no such file", "set `teacher` to a CSV of probabilities, or leave it out")
    frame = pd.read_csv(path)
    for column in ("file", *classes):
        if column not in frame.columns:
            raise ConfigError(
                f"{path}: the teacher's file has no column '{column}'", "write one with `file` and each class"
            )
    found = frame.drop_duplicates("file").set_index("file").reindex(files)[list(classes)]
    missing = int(found.isna().any(axis=1).sum())
    if missing:
        raise ConfigError(
            f"{path}: no probabilities for {missing} of {len(files)} training images", "add a row for each file"
        )
    return found.to_numpy(np.float32)
