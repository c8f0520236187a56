"""The worker's application, which stops asking Redis for messages where the file DEAF_WHILE exists.

The file DEAF_WHILE.refused tells of the first question that was not asked: at that moment none is under way.
As after some lost connections: its main process lives and answers, and takes nothing.
"""

import os
from pathlib import Path
from typing import Any

from kombu.transport.redis import Channel

from worker.queue.app import app

_ask = Channel._brpop_start


def _ask_unless_deaf(self: Any, timeout: Any = None) -> Any:
    deaf = Path(os.environ["DEAF_WHILE"])
    if not deaf.exists():
        return _ask(self, timeout)
    deaf.with_name(f"{deaf.name}.refused").touch()
    return None


Channel._brpop_start = _ask_unless_deaf

__all__ = ["app"]
