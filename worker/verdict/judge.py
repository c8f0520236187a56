"""The instances of one message: fetch, decode, prepare, infer, decide, record, at most LARGEST_BATCH at a time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from worker.errors import BadInput, CrashedProcess, ModelError, RouterError
from worker.inference.classifier import LARGEST_BATCH, Classifier
from worker.ledger import CRASHES_ALLOWED, Ledger
from worker.orthanc_client import Archive, Stored
from worker.pixels import decode_dicom
from worker.verdict.decide import HeaderFacts, Policy, Verdict, decide, fail
from worker.verdict.gate import looks_like_an_x_ray
from worker.verdict.record import Recorder


@dataclass(frozen=True)
class _Prepared:
    """One image ready for the model: (1, size, size) float32, and what goes into its verdict."""

    input: np.ndarray
    header: HeaderFacts
    strange: bool
    milliseconds: dict[str, int]


class Judge:
    """Judges instances of one archive with one model."""

    def __init__(
        self,
        archive: Archive,
        classifier: Classifier,
        ledger: Ledger,
        *,
        worker: str,
        prefix: str,
        modalities: Sequence[str],
        threads: int,
        policy: Callable[[], Policy] = Policy,
    ) -> None:
        """policy: asked for each batch, so that a site's file can change while a worker runs."""
        self._archive, self._classifier, self._ledger = archive, classifier, ledger
        self._recorder = Recorder(archive, ledger, prefix)
        self._worker, self._modalities, self._policy = worker, tuple(modalities), policy
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def judge(self, ids: Sequence[str], force: bool = False) -> int:
        """Judge and record these instances; how many got a verdict now.

        At most LARGEST_BATCH of them are in memory together, and each such batch is recorded before the
        next one is fetched: what is done stays done if a later batch fails.

        force: also those that have one. Raises ArchiveUnavailable,
        BrokerUnavailable or ModelError where the image is not to blame.
        """
        stored = self._archive.describe(list(dict.fromkeys(ids)))
        todo = [instance for instance in stored.values() if force or instance.verdict is None]
        crashes = self._ledger.crashes([instance.id for instance in todo])
        fresh = [instance for instance in todo if instance.id not in crashes]
        for start in range(0, len(fresh), LARGEST_BATCH):
            self._judge_together(fresh[start : start + LARGEST_BATCH])
        # What was in work when a process died is judged alone, so that only the culprit is blamed.
        for instance in todo:
            if crashes.get(instance.id, 0) >= CRASHES_ALLOWED:
                error = CrashedProcess(
                    f"judging this image ended its worker process {crashes[instance.id]} times",
                    "look at the file by hand",
                )
                self._record([instance], {instance.id: fail(error, self._classifier.card)})
                self._ledger.leave([instance.id])
            elif instance.id in crashes:
                self._judge_together([instance])
        return len(todo)

    def _judge_together(self, batch: Sequence[Stored]) -> None:
        """Judge and record at most LARGEST_BATCH instances; only these are in work meanwhile."""
        ids = [instance.id for instance in batch]
        self._ledger.enter(ids)
        try:
            self._record(batch, self._verdicts(ids))
        except RouterError:
            self._ledger.leave(ids)  # a service is at fault, no image
            raise
        self._ledger.leave(ids)

    def _verdicts(self, ids: Sequence[str]) -> dict[str, Verdict]:
        """A verdict for each instance that still exists."""
        card = self._classifier.card
        found = dict(zip(ids, self._pool.map(self._prepare, ids)))
        verdicts = {instance: fail(error, card) for instance, error in found.items() if isinstance(error, BadInput)}
        ready = {instance: image for instance, image in found.items() if isinstance(image, _Prepared)}
        if ready:
            policy = self._policy()
            start = time.perf_counter()
            rows = self._infer(np.stack([image.input for image in ready.values()]))
            each = round((time.perf_counter() - start) * 1000 / len(ready))
            for (instance, image), row in zip(ready.items(), rows):
                verdict = decide(row, image.header, card, policy, image.strange)
                verdict.milliseconds.update(image.milliseconds, infer=each)
                verdicts[instance] = verdict
            self._ledger.count_inferences(self._worker, len(ready))
        return verdicts

    def _prepare(self, instance: str) -> _Prepared | BadInput | None:
        """Fetch and decode one image: ready, at fault, or gone."""
        start = time.perf_counter()
        try:
            data = self._archive.fetch(instance)
            if data is None:
                return None
            fetched = time.perf_counter()
            radiograph = decode_dicom(data, self._modalities)
            prepared = self._classifier.prepare(radiograph.pixels)
            strange = not looks_like_an_x_ray(radiograph.pixels)
        except BadInput as error:
            return error
        took = {"fetch": fetched - start, "decode": time.perf_counter() - fetched}
        header = HeaderFacts(radiograph.body_part_examined, radiograph.age)
        return _Prepared(prepared, header, strange, {step: round(s * 1000) for step, s in took.items()})

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        try:
            return self._classifier.probabilities(batch)
        except Exception as error:  # out of GPU memory, a lost device: no image's fault
            raise ModelError(f"inference failed ({type(error).__name__})", "look at the GPU and its driver") from error

    def _record(self, batch: Sequence[Stored], verdicts: dict[str, Verdict]) -> None:
        studies: dict[str, dict[str, Verdict]] = defaultdict(dict)
        for instance in batch:
            if instance.id in verdicts:
                studies[instance.study][instance.id] = verdicts[instance.id]
        for study, group in studies.items():
            self._recorder.record(study, group)
