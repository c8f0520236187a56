"""Names and messages that the plugin and the worker share."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker.contract import is_label, visibility_timeout


@pytest.mark.parametrize(
    ("text", "fits"),
    [("bp-spine", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("bp spine", False), ("bp-ä", False)],
)
def test_labels_are_what_orthanc_accepts(text: str, fits: bool) -> None:
    assert is_label(text) is fits


@pytest.mark.parametrize("limit", [4, 60, 240, 3600])
def test_a_chunk_comes_back_after_its_time_limit_and_not_before(limit: int) -> None:
    assert limit < visibility_timeout(limit) <= 2 * limit + 5


def test_the_contract_needs_the_standard_library_only() -> None:
    code = "import sys, worker.contract; print(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "celery", "redis", "pydantic", "pydicom", "httpx"} & set(done.stdout.split())
