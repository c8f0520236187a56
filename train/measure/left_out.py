"""What was measured by leaving sources out, as `fit` noted it.

A class that comes from one source can be learned by that source's look, so
these figures stand beside those of any other split.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from train.measure.modelfile import Facts
from worker.errors import ConfigError

KEPT = ("score", "f1_left_out_sources", "f1_left_out_patients", "by_source")


def left_out(validation: Path | None, model: Path, facts: Facts) -> dict[str, Any] | None:
    """The figures of the setting that was chosen, or None where nothing is known.

    validation: what `fit` wrote. Where it is not given: a validation.json
    beside the model file if it tells of the same calibration, else what the
    model file carries.

    Raises ConfigError where a given file is not JSON, or is of another model.
    """
    if validation is not None:
        measured = _read(validation)
        if measured.get("calibration") != facts.calibration:
            raise ConfigError(
                f"{validation}: its calibration is not that of {model}",
                "give the one of the same run",
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
    """The chosen setting of several, or the figures themselves where there was nothing to choose."""
    candidates = measured.get("decays") or {"": measured}
    name = str(measured.get("chosen_decay", max(candidates, key=lambda decay: candidates[decay].get("score", 0))))
    found = {key: candidates[name][key] for key in KEPT if key in candidates.get(name, {})}
    return found or None
