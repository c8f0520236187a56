"""What both command lines share: -v, -q and errors in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
import click
from worker.console import CommandLine
from worker.errors import ConfigError

@click.group("tool", cls=CommandLine)
def main(): pass

@main.command()
@click.option("--broken", is_flag=True)
def work(broken):
    if broken:
        raise ConfigError("the setting X is 1", "set it to 2")
    click.echo("result")
    for name in ("worker.local.stack", "library", "httpx"):
        for level in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger(name), level)("%s %s", name, level)

main(prog_name="tool")
"""

QUIET = ["worker.local.stack error", "library error", "httpx error"]
NORMAL = ["worker.local.stack info", "worker.local.stack warning", *QUIET]
VERBOSE = ["worker.local.stack debug", *NORMAL, "library info", "library warning", "httpx warning"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["work"], NORMAL),
        (["-q", "work"], QUIET),
        (["work", "-q"], QUIET),
        (["-v", "work"], VERBOSE),
        (["work", "--verbose"], VERBOSE),
    ],
)
def test_log_records_are_plain_lines_on_stderr_and_v_and_q_choose_them(arguments: list[str], lines: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (0, "result\n")
    assert sorted(done.stderr.splitlines()) == sorted(lines)


@pytest.mark.parametrize("arguments", [["work", "--broken"], ["-q", "work", "--broken"]])
def test_an_error_is_one_line_and_exit_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tool: the setting X is 1; set it to 2.\n"
