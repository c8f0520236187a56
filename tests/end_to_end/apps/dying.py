"""The worker's application, whose process dies once at the moment when it sets a message aside.

DIES says when: `before` or `after` the message is written down. DIED names a file that remembers it.
"""

import os
import signal
from pathlib import Path
from typing import Any

from worker.queue.app import app
from worker.queue.dead_letters import DeadLetters
from worker.queue.parked import Parked


def _dying(method: Any) -> Any:
    died = Path(os.environ["DIED"])

    def call(*arguments: Any) -> Any:
        if died.exists():
            return method(*arguments)
        if os.environ["DIES"] == "after":
            method(*arguments)
        died.touch()
        return os.kill(os.getpid(), signal.SIGKILL)

    return call


Parked.park = _dying(Parked.park)  # type: ignore[method-assign]
DeadLetters.add = _dying(DeadLetters.add)  # type: ignore[method-assign]

__all__ = ["app"]
