"""Child processes that end with this process."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from worker.errors import ConfigError

START_LIMIT = 300
"""Seconds after which a program that has not come up counts as hung.

Far above what a busy machine needs: a program that ends before that is reported at once.
"""

QUIET_PORTS = range(20_000, 32_768)
"""Ports that Linux does not give to outgoing connections (`net.ipv4.ip_local_port_range` starts at 32768), so
that none is taken between the choice and the start of the server."""

_claims: dict[int, int] = {}
"""Each port that this process has chosen, and the descriptor that claims it. Kept until the process ends."""


def free_port(preferred: int = 0) -> int:
    """A TCP port of the loopback interface that no server holds and no other caller on this machine has been given.

    preferred: taken where it is free; 0 for any. The claim ends with this process.
    Raises ConfigError where no port is free.
    """
    drawn = random.SystemRandom().sample(QUIET_PORTS, 200)
    for port in (preferred, *drawn) if preferred else drawn:
        if _claim(port):
            return port
    raise ConfigError(
        f"no free TCP port on 127.0.0.1 among {QUIET_PORTS.start} to {QUIET_PORTS.stop - 1}", "stop what listens there"
    )


def _claim(port: int) -> bool:
    """Reserve a port among all processes of this machine; False where it is taken.

    The claim is an abstract Unix socket (man 7 unix): like a port it belongs to the network namespace, the kernel
    lets one process have it, and it goes away when the process ends, however it ends.
    """
    if port in _claims:
        return False
    with socket.socket(socket.AF_UNIX) as claim, socket.socket() as probe:
        try:
            claim.bind(f"\0dicom-imaging-router/port/{port}")
            # Without SO_REUSEADDR a port in TIME_WAIT counts as taken; servers set it too.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        _claims[port] = claim.detach()
    return True


class Child:
    """One process in a session of its own, its output in a log file.

    The kernel kills it when this process ends, for whatever reason.
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

    def wait_until(self, ready: Callable[[], bool], seconds: float = START_LIMIT) -> None:
        """Wait for a condition. Raises ConfigError with the end of the log where the process ends first."""
        deadline = time.monotonic() + seconds
        while not ready():
            ended = not self.alive()
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else f"was not ready after {seconds:.0f} s"
                tail = "\n".join(self.output().splitlines()[-8:])
                raise ConfigError(f"{self.name} {what}", f"its log {self.log} ends with:\n{tail}")
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
