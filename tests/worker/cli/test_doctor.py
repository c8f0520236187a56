"""How `dicom-router doctor` reports errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from worker.cli.doctor import Check, _plugin, examine
from worker.errors import BadModelFile
from worker.settings import Settings


@pytest.mark.parametrize(
    ("error", "found", "remedy"),
    [
        (BadModelFile("the key is a; b", "take another"), "the key is a; b", "take another"),
        (BadModelFile("the key is a; b"), "the key is a; b", ""),
    ],
)
def test_an_error_is_shown_with_its_own_remedy(
    error: BadModelFile, found: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def _model(settings: Settings) -> Iterator[Check]:
        yield Check("model", "ok", "found")
        raise error

    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DICOM_ROUTER_REDIS_URL", "redis://127.0.0.1:9/0")
    # By sys.modules: the name in the package is the command.
    monkeypatch.setattr(sys.modules["worker.cli.doctor"], "_model", _model)
    checks = [check for check in examine() if check.name == "model"]
    assert checks == [Check("model", "ok", "found"), Check("model", "fail", found, remedy)]


def test_the_trouble_that_the_plugin_reports_is_shown() -> None:
    status = {"following": True, "redis": "ok", "modalities": ["CR", "DX", "RG", "DR"]}
    assert _plugin({**status, "trouble": ""}, Settings()).state == "ok"
    check = _plugin({**status, "trouble": "DatabaseUnavailable: locked; trying again"}, Settings())
    assert (check.state, check.found) == ("fail", "it publishes nothing: DatabaseUnavailable: locked; trying again")
    assert check.remedy
