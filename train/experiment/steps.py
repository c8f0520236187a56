"""Steps that run once, with a record of their inputs, duration and machine."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from train.experiment.environment import about_machine
from worker.errors import ConfigError

log = logging.getLogger(__name__)


class Steps:
    """The steps of one folder, recorded in its steps.json.

    A step is skipped if its result exists and was made from the
    same inputs, which are digests by name.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "steps.json"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.noted: dict[str, dict[str, Any]] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no file yet, or cut off
            self.noted = {}

    def do(
        self, name: str, inputs: Mapping[str, str], result: Path, work: Callable[[], object], *, resumes: bool = False
    ) -> None:
        """Run a step unless it is done.

        resumes: whether `work` continues from the files of an earlier attempt. Raises
        ConfigError then if these files are from other inputs.
        """
        before = self.noted.get(name, {})
        same = before.get("inputs") == dict(inputs)
        if same and "seconds" in before and result.is_file():
            log.info(f"{name}: done before, in {duration(before['seconds'])}")
            return
        if resumes and before and not same:
            given = before.get("inputs", {})
            changed = ", ".join(key for key in {**given, **inputs} if given.get(key) != inputs.get(key))
            raise ConfigError(
                f"{self._path.parent}: holds a run with other inputs ({changed})",
                "name another folder with --out, or delete this one",
            )
        attempts = before.get("attempts", 0) + 1 if same and "seconds" not in before else 1
        self._note(name, {"inputs": dict(inputs), "attempts": attempts})
        log.info(name)
        started = time.monotonic()
        work()
        seconds = round(time.monotonic() - started, 1)
        self._note(name, {**self.noted[name], "seconds": seconds, "machine": about_machine()})
        log.info(f"{name}: {duration(seconds)}")

    def _note(self, name: str, values: dict[str, Any]) -> None:
        self.noted[name] = values
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self.noted, indent=1), encoding="utf-8")
        part.replace(self._path)


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours, as text."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def digest(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a JSON value, or of the bytes of a file."""
    data = value.read_bytes() if isinstance(value, Path) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:16]
