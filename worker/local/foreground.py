"""How a command that runs a stack in the foreground ends."""

from __future__ import annotations

import signal
from typing import Any


def end_on_signals() -> None:
    """Make a polite kill end the foreground like Ctrl-C; neither may cut the stop itself short."""

    def end(*_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
