"""The private Debian tree."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from worker.local.programs import Tree, private_root

MMDEBSTRAP = """#!/bin/sh
# Makes the folder that its last argument names. Waits a second for another one to run beside it.
echo started >> "$STARTS"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    test "$(wc -l < "$STARTS")" -gt 1 && break
    sleep 0.1
done
for folder in "$@"; do :; done
mkdir "$folder"
"""
SUDO = """#!/bin/sh
exec "$@"
"""


def test_two_processes_that_need_the_same_tree_unpack_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in {"mmdebstrap": MMDEBSTRAP, "sudo": SUDO}.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("STARTS", str(tmp_path / "starts"))
    tree = Tree("suite", ("package",))
    with ThreadPoolExecutor(2) as pool:  # locks exclude threads as they do processes: each call opens the file anew
        roots = set(pool.map(lambda _: private_root(tree), range(2)))
    assert [root.is_dir() for root in roots] == [True]
    assert (tmp_path / "starts").read_text().splitlines() == ["started"]
