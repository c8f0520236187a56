"""Waiting for verdicts on instances that were just uploaded."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.orthanc_client import Archive, Stored

PAGE = 500
PAUSE_SECONDS = 0.05


@dataclass
class Arrivals:
    """What became of some instances.

    stored: each as Orthanc last described it. seen: when (time.monotonic)
    its verdict was first seen. missing: X-rays whose verdict did not come.
    """

    stored: dict[str, Stored] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def wait_for_verdicts(archive: Archive, ids: Iterable[str], modalities: Collection[str], timeout: float) -> Arrivals:
    """Wait until each X-ray among these instances has its verdict, or `timeout` seconds are over."""
    result = Arrivals(missing=list(ids))
    deadline = time.monotonic() + timeout
    while True:
        for start in range(0, len(result.missing), PAGE):
            result.stored.update(archive.describe(result.missing[start : start + PAGE]))
        now = time.monotonic()
        for one in result.missing:
            if one in result.stored and result.stored[one].verdict:
                result.seen[one] = now
        result.missing = [
            one
            for one in result.missing
            if one in result.stored and not result.stored[one].verdict and result.stored[one].modality in modalities
        ]
        if not result.missing or now > deadline:
            return result
        time.sleep(PAUSE_SECONDS)
