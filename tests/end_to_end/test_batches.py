"""A message may name any number of images; a worker holds a bounded number of them in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.end_to_end.conftest import Running
from tests.helpers import fresh
from worker.errors import ModelError
from worker.inference.classifier import LARGEST_BATCH, Classifier
from worker.verdict.judge import Judge

LEG = "RG3_J2KI.dcm"


class Watched(Classifier):
    """The packaged model, which notes what it is given, and fails in a batch if told so."""

    def __init__(self) -> None:
        self.prepared = 0
        self.batches: list[tuple[int, int]] = []
        self.fails_in = -1
        super().__init__(device="cpu")
        self.prepared, self.batches = 0, []  # without those of the check at the start

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        self.prepared += 1
        return super().prepare(pixels)

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        if len(self.batches) == self.fails_in:
            raise RuntimeError("out of memory")
        self.batches.append((self.prepared, len(batch)))
        return super().probabilities(batch)


def judge(site: Running, classifier: Classifier) -> Judge:
    return Judge(
        site.archive, classifier, site.ledger, worker="test", prefix="bp-", modalities=("CR", "DX", "RG"), threads=2
    )


def test_a_long_message_is_judged_in_batches_each_recorded_before_the_next(own_site: Callable[..., Running]) -> None:
    site = own_site(workers=0, with_plugin=False)
    ids = site.upload(*(fresh(LEG) for _ in range(LARGEST_BATCH + 3)))
    classifier = Watched()

    # The second batch fails for no fault of an image: the first one's work is not lost, and nobody is a suspect.
    classifier.fails_in = 1
    with pytest.raises(ModelError):
        judge(site, classifier).judge(ids)
    # No image was fetched and decoded before the batch in front of it was inferred.
    assert classifier.batches == [(LARGEST_BATCH, LARGEST_BATCH)]
    stored = site.archive.describe(ids).values()
    assert sum(instance.verdict is not None for instance in stored) == LARGEST_BATCH
    assert site.ledger.crashes(ids) == {}

    classifier.fails_in = -1
    assert judge(site, classifier).judge(ids) == 3
    assert [number for _, number in classifier.batches] == [LARGEST_BATCH, 3]
    assert {verdict["outcome"] for verdict in site.verdicts(ids).values()} == {"judged"}
