"""The commands that speak to a running site."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Running
from tests.helpers import HUNG, PATIENCE, eventually, fresh, sample
from worker.cli.waiting import wait_for_verdicts
from worker.contract import VERDICT_KEY
from worker.orthanc_client import Stored

LEG = "RG3_J2KI.dcm"


def run(site: Running, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker", *map(str, arguments)]
    env = {**os.environ, **site.stack.environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=HUNG, env=env)


def test_send_waits_for_verdicts_and_tells_what_was_refused(site: Running, tmp_path: Path) -> None:
    (tmp_path / "leg.dcm").write_bytes(fresh(LEG))
    (tmp_path / "slice.dcm").write_bytes(fresh("CT_small.dcm"))
    done = run(site, "send", tmp_path, "--wait")
    assert done.returncode == 0
    assert "judged" in done.stdout
    assert "no X-ray" in done.stdout
    (tmp_path / "notes.txt").write_text("no image")
    done = run(site, "send", tmp_path)
    assert done.returncode == 1
    assert "notes.txt: Orthanc refuses the file" in done.stderr


@pytest.mark.parametrize("label", ["bp-other", "other"])
def test_find_lists_what_carries_a_label(site: Running, label: str) -> None:
    [leg] = site.upload(fresh(LEG))
    site.verdicts([leg])
    rows = json.loads(run(site, "find", label, "--level", "instance", "--format", "json").stdout)
    assert leg in {row["id"] for row in rows}
    assert all("bp-other" in row["labels"] for row in rows)
    rows = list(csv.DictReader(io.StringIO(run(site, "find", label, "--format", "csv").stdout)))
    assert site.stored(leg).study in {row["id"] for row in rows}


def test_show_prints_a_verdict(site: Running) -> None:
    [leg, ct] = site.upload(fresh(LEG), fresh("CT_small.dcm"))
    verdict = site.verdicts([leg])[leg]
    assert json.loads(run(site, "show", leg).stdout) == verdict
    assert run(site, "show", ct).returncode == 1
    assert run(site, "show", "nothing").returncode == 2


def test_status_counts(site: Running) -> None:
    [leg] = site.upload(fresh(LEG))
    site.verdicts([leg])
    answer = json.loads(run(site, "status", "--format", "json").stdout)
    assert answer["labels"]["bp-other"]["instance"] == len(site.find(Level="Instance", Labels=["bp-other"]))
    assert answer["without_verdict"] == 0
    assert len(answer["workers"]) == 2
    assert answer["queues"]["classify"] == 0
    table = run(site, "status").stdout
    assert "bp-other" in table
    eventually(lambda: "follows the change log, 0 X-rays wait" in run(site, "status").stdout)
    assert "behind" not in table + run(site, "doctor").stdout


@pytest.fixture
def mixed(own_site: object, request: pytest.FixtureRequest) -> Running:
    """No worker; three X-rays, of which the first has a verdict and the second an unreadable one; a CT that has one."""
    made: Running = own_site(workers=0, **getattr(request, "param", {}))  # type: ignore[operator]
    judged, damaged, _, slice_ = made.upload(fresh(LEG), fresh(LEG, Modality="DX"), fresh(LEG), fresh("CT_small.dcm"))
    made.archive.write_verdict(judged, "other", {"outcome": "judged", "body_part": "other", "labels": []})
    made.archive._write_metadata("instance", damaged, VERDICT_KEY, "damaged {")
    made.archive.write_verdict(slice_, None, {"outcome": "not_an_xray", "labels": []})
    return made


@pytest.mark.parametrize("mixed", [{}, {"orthanc": {"UserMetadata": {}}}], ids=["named", "not named"], indirect=True)
def test_xrays_without_a_verdict_are_counted_by_the_database(mixed: Running) -> None:
    asked: list[str] = []
    mixed.archive._client.event_hooks = {"request": [lambda request: asked.append(request.url.path)]}
    assert mixed.archive.count_without_verdict(["CR", "DX"]) == 2
    assert set(asked) == {"/system", "/tools/count-resources"}
    assert mixed.archive.count_without_verdict(["CR"]) == 1
    assert mixed.archive.count_without_verdict(["CT"]) == 0
    assert len(list(mixed.archive.without_verdict(["CR", "DX"]))) == 2
    assert json.loads(run(mixed, "status", "--format", "json").stdout)["without_verdict"] == 2
    assert "3 verdicts in 3 studies removed" in run(mixed, "remove").stdout


def test_xrays_without_a_verdict_are_counted_here_where_the_database_cannot(
    mixed: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "worker")
    system = {**mixed.archive.system(), "Capabilities": {}}
    monkeypatch.setattr(mixed.archive, "system", lambda: system)
    assert mixed.archive.count_without_verdict(["CR", "DX"]) == 2
    assert "no extended find" in caplog.text


def test_a_wait_asks_less_and_less_often_and_only_for_what_is_missing(
    mixed: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = mixed.find(Level="Instance")
    rounds: list[set[str]] = []
    describe = mixed.archive.describe

    def counted(ids: Sequence[str]) -> dict[str, Stored]:
        rounds.append(set(ids))
        return describe(ids)

    monkeypatch.setattr(mixed.archive, "describe", counted)
    arrivals = wait_for_verdicts(mixed.archive, every, ["CR", "DX"], timeout=4)
    assert rounds[0] == every
    assert all(ids == set(arrivals.missing) for ids in rounds[1:])
    assert len(arrivals.missing) == 2
    assert len(rounds) <= 12  # every 50 ms there were 60 or more


def test_doctor_finds_a_healthy_site_healthy(site: Running) -> None:
    done = run(site, "doctor")
    assert done.returncode == 0, done.stdout
    for name in (
        "settings",
        "model",
        "inference",
        "orthanc",
        "labels",
        "search",
        "metadata",
        "plugin",
        "redis",
        "eviction",
    ):
        assert f" {name}: " in done.stdout


def test_doctor_names_metadata_that_is_not_registered_and_eviction(own_site: object) -> None:
    site: Running = own_site(workers=0, orthanc={"UserMetadata": {}})  # type: ignore[operator]
    site.redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    done = run(site, "doctor")
    assert done.returncode == 1
    assert '"UserMetadata": {"BodyPart": 5510, "BodyPartVerdict": 5511, "BodyPartUnion": 5514}' in done.stdout
    assert "set maxmemory-policy to noeviction" in done.stdout


def test_verdicts_are_kept_by_number_where_the_names_are_not_registered(own_site: object) -> None:
    site: Running = own_site(orthanc={"UserMetadata": {}})  # type: ignore[operator]
    [leg] = site.upload(fresh(LEG))
    assert site.verdicts([leg])[leg]["body_part"] == "other"


def test_remove_takes_out_exactly_what_is_ours(own_site: object) -> None:
    site: Running = own_site()  # type: ignore[operator]
    ids = site.upload(fresh(LEG), fresh(LEG, BodyPartExamined="CHEST"), fresh("RG3_UNCR.dcm", PixelData=b""))
    site.verdicts(ids)
    stored = [site.stored(instance) for instance in ids]
    resources = {resource for instance in stored for resource in (instance.id, instance.series, instance.study)}
    for instance in stored:
        site.archive.add_label("study", instance.study, "bp-teaching")
        site.archive.add_label("instance", instance.id, "urgent")
    assert run(site, "remove", "--dry-run").stdout == "3 verdicts in 3 studies would be removed\n"
    assert site.labels(ids[1]) == {"bp-other", "bp-mismatch", "urgent"}
    assert run(site, "remove").stdout == "3 verdicts in 3 studies removed\n"
    left = {label for labels in site.archive.labels(sorted(resources)).values() for label in labels}
    assert left == {"bp-teaching", "urgent"}
    assert all(site.metadata(instance) == {} for instance in ids)


def children(data: Path) -> list[str]:
    """Processes whose command line names this stack's folder or that were started for it."""
    done = subprocess.run(["pgrep", "-f", str(data)], capture_output=True, text=True)
    return done.stdout.split()


def test_up_says_where_it_is_and_ctrl_c_stops_it_within_10_seconds(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-u", "-m", "worker", "up", "--data", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not any("Ctrl-C" in line for line in lines):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        for part in ("Redis    redis://127.0.0.1:", "Orthanc  http://127.0.0.1:", "Worker   worker1"):
            assert any(line.startswith(part) for line in lines)
        assert children(data)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10 * PATIENCE) == 0
    finally:
        process.kill()
        process.communicate()
    assert not children(data)


def test_two_stacks_beside_each_other_keep_apart(own_site: object) -> None:
    first: Running = own_site(workers=0, start=False)  # type: ignore[operator]
    second: Running = own_site(workers=0, start=False, data=first.stack.layout.data.with_name("second"))  # type: ignore[operator]
    first.stack.start()
    second.stack.start()
    [leg] = first.upload(fresh(LEG))
    assert leg in first.archive.describe([leg])
    assert second.archive.describe([leg]) == {}
    eventually(lambda: first.ledger.queue_lengths()["classify"] == 1)
    assert second.ledger.queue_lengths()["classify"] == 0


def test_nothing_survives_when_up_is_killed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "worker", "up", "--data", str(data)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        while "Ctrl-C" not in (line := process.stdout.readline()):
            assert line
    finally:
        process.kill()
        process.communicate()
    eventually(lambda: not children(data), 10, "the end of all children")


def test_demo_ends_by_itself_without_a_terminal_and_shows_every_verdict() -> None:
    done = subprocess.run([sys.executable, "-m", "worker", "demo"], capture_output=True, text=True, timeout=HUNG)
    assert done.returncode == 0, done.stdout + done.stderr
    chest, leg = ("adult_chest", "pixels (chest), age from the header"), ("other", "pixels")
    for scan, expected in (("RG1", chest), ("RG3", leg)):
        for encoding in ("J2KI", "J2KR", "UNCI", "UNCR"):
            [line] = [line for line in done.stdout.splitlines() if f"{scan}_{encoding}" in line]
            assert tuple(cell.strip() for cell in line.split("│")[1:3]) == expected
    assert "8 distinct instances uploaded" in done.stdout
    # The query at two levels, each with the one study of the chest as its answer.
    lines = done.stdout.splitlines()
    queries = [number for number, line in enumerate(lines) if "/tools/find" in line]
    labels = [json.loads(lines[number].split("-d ")[1].strip("'"))["Labels"] for number in queries]
    assert labels == [["bp-chest"], ["bp-adult_chest"]]
    answers = [json.loads(lines[number + 1]) for number in queries]
    assert answers[0] == answers[1] and len(answers[0]) == 1


def test_demo_takes_a_folder_of_ones_own_and_says_what_it_leaves_alone(tmp_path: Path) -> None:
    (tmp_path / "leg.dcm").write_bytes(sample(LEG).read_bytes())
    (tmp_path / "again.dcm").write_bytes(sample(LEG).read_bytes())
    (tmp_path / "slice.dcm").write_bytes(fresh("CT_small.dcm"))
    command = [sys.executable, "-m", "worker", "demo", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HUNG)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 distinct instances uploaded" in done.stdout
    assert "left alone (CT)" in done.stdout
    assert "1 more files hold instances" in done.stdout
