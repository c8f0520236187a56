"""The file of a site's correction: written, read, read again, refused."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from worker.errors import ConfigError
from worker.inference.card import ModelCard
from worker.inference.classifier import Classifier
from worker.settings import Settings
from worker.verdict.site import last_check, policy_of, read_shift, write_site


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return Classifier(device="cpu").card


def site(card: ModelCard, **changes: Any) -> dict[str, Any]:
    model = f"{card.name} {card.version}"
    at = "2026-11-24T10:00:00+00:00"
    written = {"v": 1, "node": "adult_chest", "log_odds": 2.5, "model": model, "images": 200, "at": at, "stations": []}
    return {**written, **changes}


def rewrite(path: Path, value: dict[str, Any]) -> None:
    """Write the file with another time than before, however coarse the file system's clock is."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    write_site(path, value)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_what_is_written_is_read(card: ModelCard, tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    write_site(path, site(card))
    shift = read_shift(path, card)
    assert (shift.node, shift.log_odds) == ("adult_chest", 2.5)
    assert shift.source == "adult_chest +2.50 2026-11-24T10:00:00+00:00"
    assert list(tmp_path.iterdir()) == [path]


def test_a_running_worker_takes_a_new_correction(card: ModelCard, tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    policy = policy_of(Settings(site_file=path, header_age="ignore"), card)
    assert policy().shift is None
    assert not policy().use_age
    for log_odds in (1.5, -0.5):
        rewrite(path, site(card, log_odds=log_odds))
        shift = policy().shift
        assert shift is not None
        assert shift.log_odds == log_odds


def test_a_correction_of_another_model_is_logged_once_and_the_one_of_before_stays(
    card: ModelCard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "site.json"
    policy = policy_of(Settings(site_file=path), card)
    rewrite(path, site(card))
    assert policy().shift is not None
    rewrite(path, site(card, model="another 9", log_odds=9.0))
    with caplog.at_level(logging.ERROR):
        shifts = [policy().shift for _ in range(3)]
    assert [shift.log_odds if shift else None for shift in shifts] == [2.5] * 3
    [message] = [record.getMessage() for record in caplog.records]
    assert "it was measured with the model 'another 9'" in message
    assert "site-check --write" in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 2}, "it is no site file of version 1"),
        ({"node": "knee"}, "the model has no node 'knee'"),
        ({"log_odds": 21}, "log_odds is 21, not a number"),
        ({"log_odds": "3"}, "log_odds is '3', not a number"),
        ({"at": None}, "it does not say when it was measured"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(
    card: ModelCard, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "site.json"
    path.write_text(json.dumps(site(card, **changes)))
    with pytest.raises(ConfigError, match=reason):
        read_shift(path, card)


def test_a_folder_that_does_not_exist_is_named(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing/site\.json: it cannot be written"):
        write_site(tmp_path / "missing" / "site.json", site(card))


def test_status_tells_the_last_check(card: ModelCard, tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    assert last_check(None) is None
    assert last_check(path) == {"error": f"{path} cannot be read (FileNotFoundError)"}
    path.write_text("[]")
    assert last_check(path) == {"error": f"{path} is no site file"}
    write_site(path, site(card))
    found = last_check(path)
    assert found is not None
    assert (found["images"], found["log_odds"], found["at"]) == (200, 2.5, "2026-11-24T10:00:00+00:00")
