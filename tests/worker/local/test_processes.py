"""Ports for the programs of a local stack, and programs that do not come up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from worker.errors import ConfigError
from worker.local.processes import Child, free_port

TAKE_A_PORT = "from worker.local.processes import free_port; print(free_port(), flush=True); input()"


@contextmanager
def port_of_another_process() -> Iterator[int]:
    """The port that another process was given; no server listens on it yet."""
    command = [sys.executable, "-c", TAKE_A_PORT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate("\n")


def test_a_port_belongs_to_the_process_that_was_given_it_until_that_process_ends() -> None:
    with port_of_another_process() as port:
        assert free_port(preferred=port) != port
    assert free_port(preferred=port) == port
    assert free_port(preferred=port) != port  # nor twice to one process


def test_a_port_on_which_a_server_listens_is_not_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert free_port(preferred=port) != port


def test_a_program_that_ends_before_it_is_ready_is_reported_with_its_log(tmp_path: Path) -> None:
    program = Child("program", ["sh", "-c", "echo no such file"], os.environ, tmp_path / "log")
    with pytest.raises(ConfigError, match=r"(?s)program ended; its log .*no such file"):
        program.wait_until(lambda: False)
