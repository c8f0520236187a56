"""Figures of the cross-validation over sources, from the validation.json of `fit`.

A model can recognise a class by the appearance of its only source, so the report
shows these figures with those of the evaluated split.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from train.measure.modelfile import Facts
from worker.errors import ConfigError

KEPT = ("score", "f1_left_out_sources", "f1_left_out_patients", "by_source")


def left_out(validation: Path | None, model: Path, facts: Facts) -> dict[str, Any] | None:
    """The figures of the chosen setting, or None where there are none.

    validation: the validation.json of `fit`. None: a validation.json
    beside the model file if it has the same calibration, else the figures in the
    model file.

    Raises ConfigError where a given file is not JSON, or belongs to another model.
    """
    if validation is not None:
        measured = _read(validation)
        if measured.get("calibration") != facts.calibration:
            raise ConfigError(
                f"{validation}: its calibration is not that of {model}",
                "give the validation.json of the same run",
            )
        return _chosen(measured)
    beside = model.with_name("validation.json")
    if beside.is_file():
        measured = _read(beside)
        if measured.get("calibration") == facts.calibration:
            return _chosen(measured)
    return _chosen({"decays": facts.metrics.get("validation", {})})


def _read(path: Path) -> dict[str, Any]:
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: not a validation.json of fit ({type(error).__name__})", "give the file that fit wrote"
        ) from error
    return measured if isinstance(measured, dict) else {}


def _chosen(measured: dict[str, Any]) -> dict[str, Any] | None:
    """The figures of the chosen decay, or all figures where the method chooses no decay."""
    candidates = measured.get("decays") or {"": measured}
    name = str(measured.get("chosen_decay", max(candidates, key=lambda decay: candidates[decay].get("score", 0))))
    found = {key: candidates[name][key] for key in KEPT if key in candidates.get(name, {})}
    return found or None
