"""A hospital whose adults the model takes for children checks the model by its own headers."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom

from tests.end_to_end.conftest import Running
from tests.helpers import HUNG, from_picture, to_bytes

Picture = tuple[Path, int]
"""A file and the patient's age in years."""


def run(site: Running, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker", *map(str, arguments)]
    env = {**os.environ, **site.stack.environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=HUNG, env=env)


def pictures(shared: Path, dataset: str, adults: int, children: int) -> list[Picture]:
    """So many chests of a data set, drawn with a seed."""
    folder = shared / "data" / "xray"
    with (folder / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"].startswith(dataset) and row["age"]]
    found = [(folder / row["file"], int(float(row["age"]))) for row in rows]
    random.Random(1).shuffle(found)
    old, young = [each for each in found if each[1] >= 18], [each for each in found if each[1] < 16]
    assert len(old) >= adults
    assert len(young) >= children
    return old[:adults] + young[:children]


def dicom(picture: Picture, station: str) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(from_picture(picture[0])))
    dataset.PatientAge, dataset.StationName = f"{picture[1]:03d}Y", station
    return to_bytes(dataset)


def right(verdict: dict[str, Any], age: int) -> bool:
    likeliest = max(verdict["probabilities"], key=verdict["probabilities"].get)
    return bool(likeliest == ("adult_chest" if age >= 18 else "pediatric_chest"))


def test_a_shifted_site_finds_its_shift_and_is_right_more_often_with_it(
    own_site: Callable[..., Running], shared: Path, tmp_path: Path
) -> None:
    path = tmp_path / "site.json"
    ours = {"DICOM_ROUTER_SITE_FILE": str(path), "DICOM_ROUTER_HEADER_AGE": "ignore"}
    site = own_site(environment=ours)
    shifted = pictures(shared, "Shenzhen", 68, 10)
    others, checked = [*shifted[:24], *shifted[-3:]], [*shifted[24:68], *shifted[68:-3]]

    def judged() -> dict[str, dict[str, Any]]:
        ids = site.upload(*(dicom(picture, "ROOM-2") for picture in others))
        found = site.verdicts(ids, seconds=120)
        return {instance: found[instance] for instance in ids}  # in the order of `others`; Orthanc has its own

    before = judged()
    for instance in before:
        site.archive._client.delete(f"{site.stack.url}/instances/{instance}")

    few = run(site, "site-check", "--write")
    assert few.returncode == 2
    assert "only 0 chests of known age were found, 20 are needed: nothing is written" in few.stderr
    assert not path.exists()
    assert "cannot be read" in run(site, "status").stdout

    site.verdicts(site.upload(*(dicom(picture, "ROOM-2") for picture in checked)), seconds=180)
    site.verdicts(site.upload(*(dicom(picture, "ROOM-1") for picture in pictures(shared, "Montgomery", 12, 0))))
    done = run(site, "site-check", "--write", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert json.loads(path.read_text()) == found
    assert found["images"] >= 60
    assert found["log_odds"] > found["interval"][0] > 0
    second, first = found["stations"]
    assert (second["station"], first["station"]) == ("ROOM-2", "ROOM-1")
    assert second["interval"][1] < first["agree"] / first["images"]
    assert found["agree_with_shift"] > found["agree"]
    assert f"adult_chest {found['log_odds']:+.2f} log-odds, {found['images']} images" in run(site, "status").stdout

    after = judged()  # by the worker that has run all the time
    assert {verdict["site"] for verdict in before.values()} == {""}
    assert {verdict["site"] for verdict in after.values()} == {f"adult_chest {found['log_odds']:+.2f} {found['at']}"}
    ages = [age for _, age in others]
    times_right = [sum(map(right, verdicts.values(), ages)) for verdicts in (before, after)]
    assert times_right[0] < 0.75 * len(others)
    # Which images are in the sample, and so the shift, differs from run to run: the ids are new each time.
    assert times_right[1] > times_right[0]
    assert times_right[1] > 0.7 * len(others)


def test_a_check_without_a_file_prints_and_writes_nothing(site: Running) -> None:
    refused = run(site, "site-check", "--write")
    assert refused.returncode == 2
    assert "DICOM_ROUTER_SITE_FILE is not set" in refused.stderr
    done = run(site, "site-check", "--sample", "3")
    assert done.returncode == 0
    assert "shift of adult_chest" in done.stdout
