"""`dicom-router classify`: judge files, without any server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.files import collect, paths_argument
from worker.cli.output import format_option, print_json, print_rows
from worker.console import progress
from worker.errors import BadInput

if TYPE_CHECKING:
    from worker.inference.classifier import Classifier
    from worker.settings import Settings
    from worker.verdict.decide import Verdict


@click.command()
@paths_argument
@format_option
@click.option("--model", type=click.Path(path_type=Path), help="Another model file (.onnx).")
def classify(paths: tuple[Path, ...], style: str, model: Path | None) -> None:
    """Judge DICOM, PNG or JPEG files and folders of them.

    One row a file. Exit 0: no file failed; 1: some failed; 2: wrong usage or set-up.
    """
    from worker.inference.classifier import Classifier
    from worker.settings import get_settings, usable_cores

    settings = get_settings()
    if model is not None:
        settings = settings.model_copy(update={"model": model})
    classifier = Classifier.from_settings(settings, usable_cores())
    files = collect(paths)
    with progress(_judge(files, classifier, settings), len(files), "judging") as rows:
        result = list(rows())
    if style == "json":
        print_json(result)
    else:
        names = [leaf.name for leaf in classifier.card.classes] if style == "csv" else []
        columns = ["path", "outcome", "body_part", "confidence", "decided_by", *names, "error", "reason"]
        print_rows([_flat(row) for row in result], columns, style)
    sys.exit(1 if any(row["outcome"] == "failed" for row in result) else 0)


def _judge(files: list[Path], classifier: Classifier, settings: Settings) -> Iterator[dict[str, Any]]:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from worker.inference.classifier import LARGEST_BATCH
    from worker.pixels import read_file
    from worker.settings import usable_cores
    from worker.verdict.decide import HeaderFacts, decide, fail
    from worker.verdict.gate import looks_like_an_x_ray
    from worker.verdict.site import policy_of

    policy = policy_of(settings, classifier.card)()

    def prepare(path: Path) -> tuple[np.ndarray, HeaderFacts, bool] | BadInput:
        try:
            radiograph = read_file(path, settings.modalities)
            header = HeaderFacts(radiograph.body_part_examined, radiograph.age)
            strange = not looks_like_an_x_ray(radiograph.pixels)
            return classifier.prepare(radiograph.pixels), header, strange
        except BadInput as error:
            return error

    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(files), LARGEST_BATCH):
            chunk = files[start : start + LARGEST_BATCH]
            ready = list(pool.map(prepare, chunk))
            inputs = [image[0] for image in ready if not isinstance(image, BadInput)]
            rows = iter(classifier.probabilities(np.stack(inputs)) if inputs else ())
            for path, image in zip(chunk, ready):
                if isinstance(image, BadInput):
                    yield _row(path, fail(image, classifier.card))
                else:
                    yield _row(path, decide(next(rows), image[1], classifier.card, policy, image[2]))


def _row(path: Path, verdict: Verdict) -> dict[str, Any]:
    error = None if verdict.error is None else {"kind": verdict.error[0], "message": verdict.error[1]}
    return {
        "path": str(path),
        "outcome": verdict.outcome,
        "path_in_tree": list(verdict.path),
        "body_part": verdict.body_part,
        "decided_by": verdict.decided_by,
        "stopped": verdict.stopped,
        "confidence": verdict.confidence,
        "probabilities": verdict.probabilities,
        "error": error,
        "model": f"{verdict.model.name} {verdict.model.version}",
        "model_precision": verdict.model.precision,
    }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    error = row["error"] or {"kind": None, "message": None}
    return {**row, **row["probabilities"], "error": error["kind"], "reason": error["message"]}
