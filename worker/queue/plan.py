"""What each process of a worker may use; decided before the fork, read after it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Plan:
    """What each process may use; set before the fork.

    threads: cores for one inference. decode_threads: threads that fetch and decode. summary: for the log.
    """

    threads: int = 1
    decode_threads: int = 2
    summary: str = ""


plan = Plan()
