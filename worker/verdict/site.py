"""A site's own correction of the model: what `dicom-router site-check` measured and wrote.

The file is JSON. Its keys::

    v           1
    node        the node whose log-odds against its siblings are corrected, such as adult_chest
    log_odds    what is added to them (natural logarithm)
    model       name and version of the model that was measured
    images      how many images of known age it rests on
    at          when it was measured (ISO 8601, UTC)
    stations    what was found by station, for people to read

`site-check` adds, for people too: `interval` (95%, of log_odds), `one_sided`, `agree` and `agree_with_shift` (images).
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worker.errors import ConfigError
from worker.inference.card import ModelCard
from worker.settings import Settings
from worker.verdict.decide import Policy, Shift

log = logging.getLogger(__name__)

SITE_VERSION = 1
LARGEST_LOG_ODDS = 20.0


def policy_of(settings: Settings, model: ModelCard) -> Callable[[], Policy]:
    """What the settings ask for, as a function that gives the policy of the moment.

    It reads the site's file again when its time or size changes. A file that cannot be used is logged, and the
    correction of before stays: images must not wait for it.
    """
    use_age, path = settings.header_age == "use", settings.site_file
    known: dict[str, Any] = {"stamp": None, "shift": None}

    def policy() -> Policy:
        if path is not None:
            stamp = _stamp(path)
            if stamp != known["stamp"]:
                known["stamp"] = stamp
                try:
                    known["shift"] = read_shift(path, model)
                except ConfigError as error:
                    log.error("the site's correction is not used: %s", error)
        return Policy(use_age, known["shift"])

    return policy


def read_shift(path: Path, model: ModelCard) -> Shift:
    """The correction in a site's file. Raises ConfigError, also where it was measured with another model."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"DICOM_ROUTER_SITE_FILE is {path}: it cannot be read as JSON ({type(error).__name__})",
            "write it with `dicom-router site-check --write`",
        ) from error
    reason = _wrong(value, model)
    if reason:
        raise ConfigError(
            f"DICOM_ROUTER_SITE_FILE is {path}: {reason}", "write it anew with `dicom-router site-check --write`"
        )
    return Shift(value["node"], float(value["log_odds"]), f"{value['node']} {value['log_odds']:+.2f} {value['at']}")


def write_site(path: Path, site: Mapping[str, Any]) -> None:
    """Write a site's file in one step, so that no worker reads half of it. Raises ConfigError."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(json.dumps(site, indent=2) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ConfigError(
            f"DICOM_ROUTER_SITE_FILE is {path}: it cannot be written ({error.strerror})",
            "name a file in a folder that exists and that this user may write to",
        ) from error


def last_check(path: Path | None) -> dict[str, Any] | None:
    """When a site was checked, with how many images, which model and what shift, for `status`.

    None where no file is named; `error` says why a file cannot be read.
    """
    if path is None:
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {"error": f"{path} cannot be read ({type(error).__name__})"}
    keys = ("at", "images", "node", "log_odds", "model")
    if not isinstance(value, dict) or not isinstance(value.get("log_odds"), (int, float)):
        return {"error": f"{path} is no site file"}
    return {key: value.get(key) for key in keys}


def _wrong(value: Any, model: ModelCard) -> str:
    """Why a site's file cannot be used, "" where it can."""
    if not isinstance(value, Mapping) or value.get("v") != SITE_VERSION:
        return f"it is no site file of version {SITE_VERSION}"
    if value.get("model") != f"{model.name} {model.version}":
        return f"it was measured with the model {value.get('model')!r}, this is {model.name} {model.version}"
    if value.get("node") not in model.tree.nodes:
        return f"the model has no node {value.get('node')!r}"
    number = value.get("log_odds")
    if not isinstance(number, (int, float)) or not math.isfinite(number) or abs(number) > LARGEST_LOG_ODDS:
        return f"log_odds is {number!r}, not a number from -{LARGEST_LOG_ODDS:g} to {LARGEST_LOG_ODDS:g}"
    return "" if isinstance(value.get("at"), str) else "it does not say when it was measured (`at`)"


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size
