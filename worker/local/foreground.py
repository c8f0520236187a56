"""How a command that runs a stack in the foreground ends."""

from __future__ import annotations

import signal
from typing import Any


def end_on_signals() -> None:
    """Make SIGTERM end the command as Ctrl-C does; a second signal does not interrupt the stop."""

    def end(*_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
