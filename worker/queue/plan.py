"""What each process of a worker may use; decided before the fork, read after it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Plan:
    """What each process may use; set before the fork. threads: cores for one inference."""

    threads: int = 1
    decode_threads: int = 2


plan = Plan()
