"""Every shell block of the documents that can run here does, in order, against a real stack."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.docs.documents import Block, documents, name_of, shell_blocks
from tests.end_to_end.conftest import Running
from tests.helpers import eventually, sample
from tests.train.stripes import stripes
from worker.local.programs import cache_folder

SECONDS = 240
"""A bound for a hang: longer than any block takes on a busy machine."""

CLASSES = ("abdominal", "adult_chest", "pediatric_chest", "spine", "other")
"""The folders of images that docs/training.md tells to make."""

RUNNABLE = [document for document in documents() if any(not block.not_run for block in shell_blocks(document))]


class Terminal:
    """A shell that runs one block after the other; variables and the working folder stay from block to block."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.output = ""
        self._state = folder / "state"
        home, work = folder / "home", folder / "work"
        write_home(home)
        write_work(work)
        self._environment = {
            **os.environ,
            **settings,
            "HOME": str(home),
            # Where the private Orthanc and Redis are kept; by default that is below HOME.
            "XDG_CACHE_HOME": str(cache_folder().parent),
            "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        }
        self._state.write_text(f"cd '{work}'\n")

    def run(self, block: Block) -> None:
        """Run a block to its end; fails the test with its output where a command of it fails."""
        text = f". '{self._state}'\nset -eo pipefail\n{block.text}\nset +e\n"
        text += f"{{ export -p; echo \"cd '$PWD'\"; }} > '{self._state}'"
        done = subprocess.run(
            ["bash", "-c", text],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{block.place} ended with {done.returncode}:\n{block.text}\n{done.stdout}"
        self.output += done.stdout

    def run_until(self, block: Block, log: Path) -> None:
        """Run a block until its output holds `block.until`, then press Ctrl-C and wait for its end."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f". '{self._state}'\nset -eo pipefail\n{block.text}"],
                env={**self._environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:

            def ready() -> bool:
                return block.until in log.read_text(errors="replace") or process.poll() is not None

            eventually(ready, SECONDS, f"{block.until!r} in the output of {block.place}")
            assert process.poll() is None, f"{block.place} ended by itself:\n{log.read_text(errors='replace')}"
            os.killpg(process.pid, signal.SIGINT)
            process.wait(SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def write_home(home: Path) -> None:
    """Two X-rays, and a curl that fails where the server refuses."""
    (home / "x-rays").mkdir(parents=True)
    for name in ("RG1_J2KR.dcm", "RG3_J2KI.dcm"):
        shutil.copy(sample(name), home / "x-rays")
    (home / ".curlrc").write_text("fail\nsilent\nshow-error\n")


def write_work(work: Path) -> None:
    """The environment as `make` makes it, and pictures to learn from."""
    random = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        folder = work / "x-rays" / name
        folder.mkdir(parents=True)
        for index in range(4):
            cv2.imwrite(str(folder / f"{index}.png"), stripes(label, random))
    (work / ".venv").symlink_to(sys.prefix)


@pytest.mark.parametrize("document", RUNNABLE, ids=name_of)
def test_the_commands_of_a_document_work(document: Path, documented_site: Running, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, documented_site.stack.environment)
    ids = documented_site.upload(*(sample(name).read_bytes() for name in ("RG1_J2KR.dcm", "RG3_J2KI.dcm")))
    documented_site.verdicts(ids, SECONDS)
    for number, block in enumerate(shell_blocks(document)):
        if block.until:
            terminal.run_until(block, tmp_path / f"{number}.log")
        elif not block.not_run:
            terminal.run(block)


def test_most_pages_have_commands_that_run() -> None:
    assert {"README.md", "docs/usage.md", "docs/operation.md", "docs/training.md"} <= set(map(name_of, RUNNABLE))


def test_every_block_that_is_not_run_says_why() -> None:
    reasons = [block.not_run for document in documents() for block in shell_blocks(document) if block.not_run]
    assert reasons
    assert [reason for reason in reasons if len(reason) < 10] == []


def test_a_command_that_fails_fails_its_block(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, {})
    terminal.run(Block("first", "sh", "word=kept\nexport word\nmkdir inner && cd inner\n"))
    terminal.run(Block("second", "sh", 'test "$word" = kept && test "$(basename "$PWD")" = inner\n'))
    with pytest.raises(AssertionError, match="third ended with"):
        terminal.run(Block("third", "sh", "false | cat\necho not reached\n"))
