"""Child processes that cannot outlive us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from worker.errors import ConfigError

_given: set[int] = set()


def free_port(preferred: int = 0) -> int:
    """The preferred TCP port of the loopback interface if it is free, else any that is; never the same twice."""
    for port in (preferred, *[0] * 20):
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                # Without SO_REUSEADDR a port in TIME_WAIT counts as taken; servers set it too.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
        if found not in _given:
            _given.add(found)
            return found
    raise ConfigError("127.0.0.1 has no free TCP port", "end programs that hold ports")


class Child:
    """One process in a session of its own, its output in a log file.

    The kernel kills it when we die, however we die.
    """

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self._start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        """What it has written since it was started."""
        with self.log.open("rb") as file:
            file.seek(self._start)
            return file.read().decode(errors="replace")

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition. Raises ConfigError with the end of the log where the process ends first."""
        deadline = time.monotonic() + seconds
        while not ready():
            ended = not self.alive()
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else f"was not ready after {seconds:.0f} s"
                tail = "\n".join(self.output().splitlines()[-8:])
                raise ConfigError(f"{self.name} {what}", f"read {self.log}, which ends with:\n{tail}")
            time.sleep(0.05)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        if self.alive():
            self._process.send_signal(number)

    def stop(self, seconds: float, number: int = signal.SIGTERM) -> None:
        """Ask it to end, and after `seconds` kill it with all that it has started."""
        self.send_signal(number)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
