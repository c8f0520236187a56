"""A table that compares several models, from the results of `evaluate`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.measure.bootstrap import resample, span
from train.measure.metrics import confusion_columns, rates
from train.measure.tables import span_text
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """Results of `evaluate` in a folder; predictions are None where predictions.csv is missing."""

    folder: Path
    figures: dict[str, Any]
    predictions: pd.DataFrame | None


def read_result(folder: Path) -> Result:
    """Read a folder with results. Raises ConfigError where it has no metrics.json of `evaluate`."""
    import pandas as pd

    path = folder / "metrics.json"
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: not the metrics of an evaluation ({type(error).__name__})",
            "run dicom-router-train evaluate",
        ) from error
    if not isinstance(figures, dict) or not {"model", "macro_f1", "confusion"} <= set(figures):
        raise ConfigError(
            f"{path}: not the metrics of an evaluation",
            "run dicom-router-train evaluate",
        )
    table = folder / "predictions.csv"
    return Result(folder, figures, pd.read_csv(table) if table.is_file() else None)


def difference(first: Result, second: Result) -> dict[str, float] | None:
    """Macro-F1 of `second` minus that of `first`, with its paired 95% bootstrap interval.

    Each replicate uses the same images for both models, so that images that are difficult for
    both do not widen the interval. None where predictions are missing, the classes
    differ, there is no common image, or an image has two different true classes.
    """
    classes = first.figures["confusion"]["classes"]
    if first.predictions is None or second.predictions is None or second.figures["confusion"]["classes"] != classes:
        return None
    both = first.predictions.merge(second.predictions, on="file", suffixes=("", "_other"))
    if both.empty or (both["truth"] != both["truth_other"]).any():
        return None
    index = {name: position for position, name in enumerate(classes)}
    truth, ours, theirs = (both[key].map(index).to_numpy(int) for key in ("truth", "predicted", "predicted_other"))
    groups, count = both["group"].to_numpy(), len(classes)
    pairs = np.hstack([confusion_columns(truth, predicted, count) for predicted in (ours, theirs)])
    f1 = rates(resample(pairs, groups).reshape(-1, 2, count, count))[2]
    macro = np.nanmean(f1, axis=2)
    return span(macro[:, 1] - macro[:, 0])


def read_speeds(path: Path) -> dict[str, float]:
    """Images a second by model name, from a benchmark's CSV; the fastest row of each model.

    Raises ConfigError where the columns `model` and `images_per_second` are missing.
    """
    speeds: dict[str, float] = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if not {"model", "images_per_second"} <= set(rows.fieldnames or ()):
            raise ConfigError(
                f"{path}: needs the columns 'model' and 'images_per_second'", "give the CSV of a benchmark"
            )
        for row in rows:
            try:
                speed = float(row["images_per_second"])
            except (TypeError, ValueError):
                continue  # the row has no measured value
            speeds[row["model"]] = max(speed, speeds.get(row["model"], 0.0))
    return speeds


def rows_of(results: Sequence[Result], speeds: dict[str, float]) -> list[dict[str, str]]:
    """A row for each model, in the given order; differences are to the first model."""
    keys = {
        "macro-F1": "macro_f1",
        "chests merged": "macro_f1_merged_chests",
        "adult against child": "adult_pediatric_balanced_accuracy",
    }
    rows = []
    for result in results:
        figures, model = result.figures, result.figures["model"]
        change = None if result is results[0] else difference(results[0], result)
        answered = figures.get("answered") or {}
        rows.append(
            {
                "model": f"{model['name']} {model['version']}",
                "input": _number(model.get("size"), "d"),
                "parameters": "" if model.get("parameters") is None else f"{model['parameters'] / 1e6:.1f} M",
                "images": _number(figures.get("n"), "d"),
                **{title: span_text(figures[key]) if figures.get(key) else "" for title, key in keys.items()},
                "answered": _number(answered.get("coverage"), ".3f"),
                "right among them": _number(answered.get("accuracy"), ".3f"),
                "ECE": _number(figures.get("ece"), ".3f"),
                "images/s": _number(speeds.get(model["name"]), ".1f"),
                "macro-F1 to the first, paired": ""
                if change is None
                else f"{change['value']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})",
            }
        )
    # Leave out columns that are empty for all models.
    filled = [title for title in rows[0] if any(row[title] for row in rows)]
    return [{title: row[title] for title in filled} for row in rows]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def write_table(rows: Sequence[dict[str, str]], target: Path) -> str:
    """Write the rows as CSV or, with any other suffix, as Markdown; returns the written text."""
    if target.suffix.lower() == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        written = text.getvalue()
    else:
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
        written = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(written, encoding="utf-8")
    return written
