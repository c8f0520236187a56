"""Waiting for verdicts on instances that were just uploaded."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.orthanc_client import Archive, Stored

PAGE = 500
"""Instances that Orthanc is asked for at once."""

SHORTEST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0
GROWTH = 1.5
"""Each round without a new verdict is followed by a pause this many times as long."""


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
    """Wait until each X-ray among these instances has its verdict, or `timeout` seconds are over.

    Asks for those that are still missing, less and less often while no
    verdict comes, and is never busy asking for more than half of the time.
    Raises ArchiveUnavailable.
    """
    result = Arrivals(missing=list(ids))
    deadline = time.monotonic() + timeout
    pause = SHORTEST_PAUSE_SECONDS
    while True:
        start, before = time.monotonic(), len(result.seen)
        _ask(archive, result, modalities)
        now = time.monotonic()
        if not result.missing or now >= deadline:
            return result
        pause = SHORTEST_PAUSE_SECONDS if len(result.seen) > before else min(LONGEST_PAUSE_SECONDS, pause * GROWTH)
        time.sleep(min(max(pause, now - start), deadline - now))


def _ask(archive: Archive, result: Arrivals, modalities: Collection[str]) -> None:
    """Take into account what Orthanc says now of the missing ones."""
    still: list[str] = []
    for start in range(0, len(result.missing), PAGE):
        page = result.missing[start : start + PAGE]
        described = archive.describe(page)
        now = time.monotonic()
        for instance in page:
            stored = described.get(instance)
            if stored is None:  # deleted meanwhile
                result.stored.pop(instance, None)
            elif stored.verdict:
                result.seen[instance] = now
            elif stored.modality in modalities:
                still.append(instance)
        result.stored.update(described)
    result.missing = still
