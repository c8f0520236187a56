"""Measuring the ONNX file that the worker runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from train.manifest import CLASSES, group_of, read_manifest
from train.metrics import measure
from worker.classifier import Classifier
from worker.errors import ConfigError
from worker.pixels import read_file

BATCH = 16


def evaluate(model: Path, manifest: Path, split: str, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Judge every image of a split and write metrics.json and metrics.md into `out`.

    The images take the worker's way: its decoder, preparation and model
    file. Rows with a partial label are left out.
    """
    classifier = Classifier(model, "auto", 2)
    names = tuple(one.name for one in classifier.card.classes)
    if names != CLASSES:
        raise ConfigError(f"{model}: its classes are {', '.join(names)}; the evaluation is of {', '.join(CLASSES)}.")
    frame = read_manifest(manifest, split)
    frame = frame[frame["class"].isin(CLASSES)].reset_index(drop=True)
    say(f"judging {len(frame)} images of split '{split}'")
    probabilities = _judge(classifier, list(frame["path"]))
    figures = measure(
        probabilities,
        np.array([CLASSES.index(one) for one in frame["class"]]),
        group_of(frame),
        frame["dataset"].to_numpy(),
        frame["age"].to_numpy(float),
        np.array([one.threshold for one in classifier.card.classes]),
    )
    card = classifier.card
    figures["split"] = split
    figures["model"] = {"name": card.name, "version": card.version, "sha256": card.sha256}
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (out / "metrics.md").write_text(tables(figures), encoding="utf-8")
    return figures


def _judge(classifier: Classifier, paths: list[str]) -> np.ndarray:
    from rich.progress import track

    rows = []
    for start in track(range(0, len(paths), BATCH), "judging"):
        batch = [classifier.prepare(read_file(Path(one)).pixels) for one in paths[start : start + BATCH]]
        rows.append(classifier.probabilities(np.stack(batch)))
    return np.concatenate(rows)


def tables(figures: dict[str, Any]) -> str:
    """The figures as Markdown, as they stand in the model card."""

    def span(key: str) -> str:
        one = figures[key]
        return "not measured" if one is None else f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"

    titles = {
        "macro_f1": "macro-F1, five classes",
        "macro_recall": "macro recall",
        "macro_precision": "macro precision",
        "macro_f1_merged_chests": "macro-F1, four classes (chests merged)",
        "adult_pediatric_balanced_accuracy": "adult against child, balanced accuracy",
    }
    lines = ["| figure | value (95% bootstrap interval) |", "| --- | --- |"]
    lines += [f"| {title} | {span(key)} |" for key, title in titles.items()]
    answered = figures["answered"]
    lines += [
        f"| images | {figures['n']} |",
        f"| expected calibration error | {figures['ece']:.3f} |",
        f"| answered (the rest is put to review) | {answered['coverage']:.3f} |",
        f"| right among the answered | {answered['accuracy']:.3f} |",
        "",
        "| class | images | recall | precision | F1 | answered |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {one['n']} | {one['recall']} | {one['precision']} | {one['f1']} | {one['answered']} |"
        for name, one in figures["per_class"].items()
    ]
    lines += ["", "Confusion (rows: truth, columns: predicted)", "", "| | " + " | ".join(CLASSES) + " |"]
    lines += ["| --- " * (len(CLASSES) + 1) + "|"]
    for name, row in zip(CLASSES, figures["confusion"]["matrix"]):
        lines.append(f"| {name} | " + " | ".join(map(str, row)) + " |")
    lines += ["", "| source | images | right |", "| --- | --- | --- |"]
    lines += [f"| {name} | {one['n']} | {one['share']} |" for name, one in figures["per_dataset"].items()]
    lines += ["", "| children's age (years) | images | found |", "| --- | --- | --- |"]
    lines += [f"| {band} | {one['n']} | {one['right']} |" for band, one in figures["pediatric_recall_by_age"].items()]
    return "\n".join(lines) + "\n"
