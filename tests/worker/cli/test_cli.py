"""The command line without any server."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import HUNG, fresh, sample


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HUNG, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A leg, a CT slice, and in a sub-folder a text and a chest without pixels."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "leg.dcm").write_bytes(sample("RG3_J2KI.dcm").read_bytes())
    (tmp_path / "slice.dcm").write_bytes(fresh("CT_small.dcm"))
    (tmp_path / "deep/notes.txt").write_text("no image")
    (tmp_path / "deep/empty.dcm").write_bytes(fresh("RG1_UNCR.dcm", PixelData=b""))
    return tmp_path


def test_json_has_one_entry_a_file_and_failures_do_not_stop_the_rest(folder: Path) -> None:
    done = run("classify", folder, "--format", "json")
    assert done.returncode == 1
    rows = {Path(row["path"]).name: row for row in json.loads(done.stdout)}
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "leg.dcm": "judged",
        "slice.dcm": "not_an_xray",
        "notes.txt": "failed",
        "empty.dcm": "failed",
    }
    leg, empty = rows["leg.dcm"], rows["empty.dcm"]
    assert set(leg) == {
        "path",
        "outcome",
        "path_in_tree",
        "body_part",
        "decided_by",
        "stopped",
        "confidence",
        "probabilities",
        "error",
        "model",
        "model_precision",
    }
    assert (leg["body_part"], leg["error"]) == ("other", None)
    assert leg["confidence"] == max(leg["probabilities"].values())
    assert empty["error"]["kind"] == "NoPixels"
    assert (empty["body_part"], empty["confidence"], empty["probabilities"]) == (None, None, {})


def test_csv_can_be_read_back(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("classify", folder, "--format", "csv").stdout)))
    by_name = {Path(row["path"]).name: row for row in rows}
    assert by_name["leg.dcm"]["body_part"] == "other"
    assert float(by_name["leg.dcm"]["other"]) > 0.5
    assert by_name["notes.txt"]["error"] == "NotDicom"


def test_a_table_shows_every_file(folder: Path) -> None:
    text = run("classify", folder).stdout
    assert all(name in text for name in ("leg.dcm", "slice.dcm", "notes.txt", "empty.dcm"))


def test_exit_0_where_nothing_failed(folder: Path) -> None:
    assert run("classify", folder / "leg.dcm", folder / "slice.dcm").returncode == 0


def test_a_file_given_twice_gets_one_row(folder: Path) -> None:
    done = run("classify", folder / "leg.dcm", folder / "leg.dcm", "--format", "json")
    assert len(json.loads(done.stdout)) == 1


@pytest.mark.parametrize(
    "arguments", [["classify"], ["classify", "/nowhere"], ["classify", __file__, "--model", "/no.onnx"], ["dance"]]
)
def test_exit_2_with_a_reason_on_wrong_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_a_service_that_is_down_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_URL", "http://127.0.0.1:9")
    done = run("status")
    assert done.returncode == 2
    assert done.stderr == (
        "dicom-router: Orthanc at http://127.0.0.1:9 does not answer (ConnectError); "
        "start it, or set DICOM_ROUTER_ORTHANC_URL.\n"
    )


def test_doctor_says_what_to_do_where_everything_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DICOM_ROUTER_REDIS_URL", "redis://127.0.0.1:9/0")
    done = run("doctor", "--format", "json")
    assert done.returncode == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["model"]["state"] == "ok"
    for name in ("orthanc", "redis"):
        assert checks[name]["state"] == "fail"
        assert checks[name]["remedy"]


@pytest.mark.parametrize(
    "command", [["status"], ["send", __file__], ["show", "x"], ["remove"], ["find", "x"], ["up"], ["demo"]]
)
def test_a_wrong_setting_is_named_in_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DICOM_ROUTER_CORES", "many")
    done = run(*command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dicom-router: DICOM_ROUTER_CORES is 'many': ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["nonsense", "http://:secret@host:6379", "redis://:secret@host:many/0"])
def test_a_redis_address_that_cannot_be_one_is_refused_without_showing_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DICOM_ROUTER_REDIS_URL", url)
    done = run("doctor", "--format", "json")
    assert done.returncode == 1
    assert "secret" not in done.stdout + done.stderr
    [settings] = [check for check in json.loads(done.stdout) if check["name"] == "settings"]
    assert settings["state"] == "fail"
    wrong = "its host or port cannot be read" if "many" in url else "it must begin with redis:// or rediss://"
    assert settings["found"].startswith(f"DICOM_ROUTER_REDIS_URL: {wrong}")
    assert settings["remedy"] == "correct the variable, or the key of the TOML file"


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = "import sys, worker.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    heavy = {"numpy", "cv2", "onnxruntime", "pydicom", "pydantic", "httpx", "celery", "redis", "rich"}
    assert heavy & set(done.stdout.split()) == set()


def test_help_costs_less_than_half_a_second_of_cpu() -> None:
    run("--help")  # compiles what is not compiled yet
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "classify" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_celery_finds_the_application_by_its_documented_name() -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "report"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HUNG, check=True)
    for setting in (
        "task_acks_late: True",
        "task_acks_on_failure_or_timeout: False",
        "task_reject_on_worker_lost: True",
        "worker_prefetch_multiplier: 1",
        "'visibility_timeout': 300",
        "task_time_limit: 240",
    ):
        assert setting in done.stdout
    assert "result_backend" not in done.stdout or "result_backend: None" in done.stdout
