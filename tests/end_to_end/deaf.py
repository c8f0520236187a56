"""The worker's application, which stops asking Redis for messages where the file DEAF_WHILE exists.

As after some lost connections: its main process lives and answers, and takes nothing.
"""

import os
from pathlib import Path
from typing import Any

from kombu.transport.redis import Channel

from worker.queue.app import app

_ask = Channel._brpop_start


def _ask_unless_deaf(self: Any, timeout: Any = None) -> Any:
    if not Path(os.environ["DEAF_WHILE"]).exists():
        return _ask(self, timeout)
    return None


Channel._brpop_start = _ask_unless_deaf

__all__ = ["app"]
