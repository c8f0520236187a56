"""Names and messages that the plugin and the worker share."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker.contract import dump_union, dump_verdict, is_label, load_union, load_verdict, visibility_timeout


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


def test_a_verdict_comes_back_with_keys_of_later_versions() -> None:
    verdict = {"outcome": "judged", "labels": ["bp-hand"], "confidence": 1, "error": None, "path": ["other", "hand"]}
    assert load_verdict(dump_verdict(verdict)) == verdict


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no JSON",
        "null",
        "[]",
        "[" * 100_000,
        "{}",
        '{"outcome": "judged"}',
        '{"outcome": null, "labels": []}',
        '{"outcome": 1, "labels": []}',
        '{"outcome": "judged", "labels": null}',
        '{"outcome": "judged", "labels": "bp-spine"}',
        '{"outcome": "judged", "labels": {"bp-spine": 1}}',
        '{"outcome": "judged", "labels": [null]}',
        '{"outcome": "judged", "labels": [], "body_part": 1}',
        '{"outcome": "judged", "labels": [], "confidence": "0.9"}',
        '{"outcome": "judged", "labels": [], "confidence": true}',
        '{"outcome": "judged", "labels": [], "probabilities": [0.9]}',
        '{"outcome": "failed", "labels": [], "error": "broken"}',
        '{"outcome": "failed", "labels": [], "error": {"kind": "NotDicom"}}',
    ],
)
def test_a_verdict_of_a_wrong_shape_is_none(text: str | None) -> None:
    assert load_verdict(text) is None


def test_a_union_is_a_sorted_list() -> None:
    assert dump_union({"bp-spine", "bp-other"}) == '["bp-other","bp-spine"]'
    assert load_union('["bp-other","bp-spine"]') == {"bp-other", "bp-spine"}
    assert load_union("[]") == frozenset()


@pytest.mark.parametrize("text", [None, "", "bp-spine", '"bp-spine"', "[1]", '{"bp-spine": 1}', "null"])
def test_a_union_of_a_wrong_shape_is_none(text: str | None) -> None:
    assert load_union(text) is None
