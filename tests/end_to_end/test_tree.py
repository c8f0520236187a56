"""Answers at several levels of the model's tree, and verdicts of version 1 beside those of today."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from pydicom.uid import generate_uid

from tests.end_to_end.conftest import Running
from tests.helpers import eventually, fresh
from worker.contract import BODY_PART_NAME, VERDICT_NAME
from worker.inference.classifier import PACKAGED_MODEL
from worker.orthanc_client import Level
from worker.verdict.record import Recorder

CHEST, LEG = "RG1_J2KI.dcm", "RG3_J2KI.dcm"
UNKNOWN_AGE = {"PatientAge": "", "PatientBirthDate": ""}
ADULT = {"bp-chest", "bp-adult_chest"}
OPEN = {"bp-chest", "bp-review"}


def labels_at_all_levels(site: Running, instance: str) -> list[set[str]]:
    """Of the instance, its series and its study."""
    stored = site.stored(instance)
    return [site.labels(resource) for resource in (instance, stored.series, stored.study)]


def one_verdict(site: Running, data: bytes) -> tuple[str, dict[str, Any]]:
    """An uploaded image's instance id and its verdict."""
    [instance] = site.upload(data)
    return instance, site.verdicts([instance])[instance]


def test_the_headers_age_completes_a_chest_and_labels_stand_at_three_levels(site: Running) -> None:
    chest, verdict = one_verdict(site, fresh(CHEST, PatientAge="", PatientBirthDate="19400305", StudyDate="20040826"))
    assert (verdict["v"], verdict["outcome"], verdict["path"]) == (2, "judged", ["chest", "adult_chest"])
    assert (verdict["pixels"], verdict["decided_by"], verdict["mismatch"]) == ("chest", "age", [])
    assert labels_at_all_levels(site, chest) == [ADULT] * 3
    assert site.metadata(chest)[BODY_PART_NAME] == "adult_chest"
    assert len(site.metadata(chest)[VERDICT_NAME]) < 1024


@pytest.mark.parametrize("header", [UNKNOWN_AGE, {"PatientAge": "016Y"}, {"PatientAge": "17"}, {"PatientAge": "017Y"}])
def test_a_chest_whose_age_group_is_open_is_found_as_a_chest_and_put_to_review(
    site: Running, header: dict[str, str]
) -> None:
    chest, verdict = one_verdict(site, fresh(CHEST, **header))
    assert (verdict["outcome"], verdict["path"], verdict["decided_by"]) == ("partial", ["chest"], "pixels")
    assert verdict["stopped"].startswith("adult_chest 0.99")
    assert labels_at_all_levels(site, chest) == [OPEN] * 3
    assert site.metadata(chest)[BODY_PART_NAME] == "chest"


def test_an_age_below_16_makes_a_childs_chest_of_a_chest_and_leaves_a_leg_alone(site: Running) -> None:
    chest, verdict = one_verdict(site, fresh(CHEST, PatientAge="003Y"))
    assert (verdict["body_part"], verdict["decided_by"]) == ("pediatric_chest", "age")
    assert labels_at_all_levels(site, chest) == [{"bp-chest", "bp-pediatric_chest"}] * 3
    leg, verdict = one_verdict(site, fresh(LEG, PatientAge="003Y"))
    assert (verdict["body_part"], verdict["decided_by"]) == ("other", "pixels")
    assert labels_at_all_levels(site, leg) == [{"bp-other"}] * 3


def with_properties(path: Path, **properties: Any) -> Path:
    """The packaged model with these metadata properties in place of its own."""
    model = onnx.load(PACKAGED_MODEL)
    known = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, known | {name: json.dumps(value) for name, value in properties.items()})
    onnx.save(model, path)
    return path


def properties() -> dict[str, Any]:
    names = ("classes", "tree", "calibration")
    found = {entry.key: entry.value for entry in onnx.load(PACKAGED_MODEL).metadata_props}
    return {name: json.loads(found[name]) for name in names}


def test_an_age_against_sure_pixels_is_a_mismatch_that_says_why(
    own_site: Callable[..., Running], tmp_path: Path
) -> None:
    calibration = properties()["calibration"]
    calibration["thresholds"]["adult_chest"] = 0.98  # so that the pixels alone are sure of an adult
    model = with_properties(tmp_path / "surer.onnx", calibration=calibration)
    site = own_site(environment={"DICOM_ROUTER_MODEL": str(model)})
    chest, verdict = one_verdict(site, fresh(CHEST, PatientAge="003Y"))
    assert (verdict["body_part"], verdict["pixels"]) == ("pediatric_chest", "adult_chest")
    assert (verdict["decided_by"], verdict["mismatch"]) == ("age", ["age"])
    expected = {"bp-chest", "bp-pediatric_chest", "bp-mismatch"}
    assert labels_at_all_levels(site, chest) == [expected] * 3


def test_queries_at_both_levels_find_what_they_should_in_right_unions(site: Running) -> None:
    study = generate_uid()
    adult, unsure, leg = site.upload(
        fresh(CHEST, study=study, PatientID="TREE"),
        fresh(CHEST, study=study, PatientID="TREE", **UNKNOWN_AGE),
        fresh(LEG, study=study, PatientID="TREE"),
    )
    site.verdicts([adult, unsure, leg])
    whole = site.stored(leg).study
    assert set(site.union("study", whole) or ()) == site.labels(whole) == ADULT | OPEN | {"bp-other"}
    for instance, labels in ((adult, ADULT), (unsure, OPEN), (leg, {"bp-other"})):
        series = site.stored(instance).series
        assert set(site.union("series", series) or ()) == site.labels(series) == labels
    three = {adult, unsure, leg}
    for label, expected in (("bp-chest", {adult, unsure}), ("bp-adult_chest", {adult}), ("bp-review", {unsure})):
        assert site.find(Level="Instance", Labels=[label]) & three == expected
        series = {site.stored(instance).series for instance in three}
        assert site.find(Level="Series", Labels=[label]) & series == {site.stored(name).series for name in expected}
        assert whole in site.find(Level="Study", Labels=[label])
    [open_chests] = [site.find(Level="Instance", MetadataQuery={BODY_PART_NAME: "chest"}) & three]
    assert open_chests == {unsure}


def write_version_1(site: Running, instance: str, body_part: str) -> None:
    """A verdict as version 0.1.0 recorded it: labels, unions, then the metadata."""
    stored, label = site.stored(instance), f"bp-{body_part}"
    levels: dict[Level, str] = {"instance": instance, "series": stored.series, "study": stored.study}
    for level, resource in levels.items():
        site.archive.add_label(level, resource, label)
        if level != "instance":
            site.archive.write_union(level, resource, frozenset({label}))
    verdict = {
        "v": 1, "outcome": "judged", "body_part": body_part, "confidence": 0.99,
        "probabilities": {"abdominal": 0.0, "adult_chest": 0.0, "pediatric_chest": 0.0, "spine": 0.99, "other": 0.01},
        "labels": [label], "header": "", "mismatch": False, "error": None, "model": "two_step 0.1.0",
        "model_sha256": "0" * 64, "model_precision": "int8", "router": "0.1.0", "ms": {}, "at": "2026-01-01T00:00:00",
    }  # fmt: skip
    site.archive.write_verdict(instance, body_part, verdict)


def test_verdicts_of_both_versions_share_right_unions_and_remove_takes_both(own_site: Callable[..., Running]) -> None:
    site = own_site(workers=0)
    study = generate_uid()
    old, kept = site.upload(*(fresh(LEG, study=study, PatientID="TREE") for _ in range(2)))
    for instance in (old, kept):
        write_version_1(site, instance, "spine")
    site.stack.wait_for_worker(site.stack.launch_worker())
    chest, _ = one_verdict(site, fresh(CHEST, study=study, PatientID="TREE"))
    verdict = site.stored(old).verdict
    assert verdict is not None and (verdict["v"], verdict["labels"]) == (1, ["bp-spine"])
    whole = site.stored(old).study
    assert set(site.union("study", whole) or ()) == site.labels(whole) == ADULT | {"bp-spine"}
    # Judged anew, the older verdict's label goes with it; that of its neighbour stays.
    assert site.archive.reclassify(old)
    eventually(lambda: site.verdicts([old])[old]["v"] == 2)
    eventually(lambda: not any(site.ledger.queue_lengths().values()), 60, "an end of all chunks")
    everything = ADULT | {"bp-other", "bp-spine"}
    assert labels_at_all_levels(site, old) == [{"bp-other"}, {"bp-other"}, everything]
    assert labels_at_all_levels(site, kept) == [{"bp-spine"}, {"bp-spine"}, everything]
    assert set(site.union("study", whole) or ()) == everything
    removed = Recorder(site.archive, site.ledger, "bp-").remove(whole)
    assert set(removed) == {old, kept, chest}
    for instance in (old, kept, chest):
        assert labels_at_all_levels(site, instance) == [set()] * 3
        assert site.metadata(instance) == {}
    assert site.union("study", whole) is None


def test_an_older_worker_beside_a_newer_one_and_alone_again_leaves_right_unions(
    own_site: Callable[..., Running], tmp_path: Path
) -> None:
    flat = with_properties(tmp_path / "flat.onnx", tree=[])
    site = own_site(app="tests.end_to_end.apps.version_1", environment={"DICOM_ROUTER_MODEL": str(flat)})
    study = generate_uid()

    def upload(number: int) -> list[str]:
        files = [fresh(CHEST if n % 2 else LEG, study=study, PatientID="TREE") for n in range(number)]
        with ThreadPoolExecutor(2) as pool:
            return [instance for [instance] in pool.map(site.upload, files)]

    def check(ids: list[str]) -> dict[str, dict[str, Any]]:
        verdicts = site.verdicts(ids, 120)
        eventually(lambda: not any(site.ledger.queue_lengths().values()), 120, "an end of all chunks")
        expected = {label for verdict in verdicts.values() for label in verdict["labels"]}
        whole = site.stored(ids[0]).study
        assert set(site.union("study", whole) or ()) == site.labels(whole) == expected
        for instance, verdict in verdicts.items():
            assert site.labels(instance) == site.labels(site.stored(instance).series) == set(verdict["labels"])
        return verdicts

    ids = upload(4)
    assert {verdict["v"] for verdict in check(ids).values()} == {1}
    ids += upload(4)  # images arrive while the new worker starts
    site.stack.layout = replace(site.stack.layout, app="worker.app", environment={})
    new = site.stack.launch_worker()
    ids += upload(4)
    site.stack.wait_for_worker(new)
    ids += upload(12)
    check(ids)
    site.stack.stop_worker("worker1")
    ids += upload(2)
    verdicts = check(ids)
    assert {verdicts[instance]["v"] for instance in ids[-2:]} == {2}
    assert verdicts[ids[-1]]["path"] == ["chest", "adult_chest"]
    # A downgrade: the older worker judges a newer verdict anew, and every label of the path goes.
    site.stack.layout = replace(
        site.stack.layout, app="tests.end_to_end.apps.version_1", environment={"DICOM_ROUTER_MODEL": str(flat)}
    )
    site.stack.stop_worker(new)
    site.stack.wait_for_worker(site.stack.launch_worker())
    ids += upload(2)
    check(ids)
    newest = ids[-3]
    assert site.archive.reclassify(newest)
    eventually(lambda: site.verdicts([newest])[newest]["v"] == 1)
    check(ids)
    assert not ADULT & site.labels(newest)


def test_a_model_of_three_levels_gives_all_labels_of_the_path(own_site: Callable[..., Running], tmp_path: Path) -> None:
    given = properties()
    [chest] = given["tree"]
    trunk = {**chest, "name": "trunk", "title": "Trunk", "children": ["chest", "abdominal", "spine"]}
    given["calibration"]["thresholds"]["trunk"] = 0.9
    model = with_properties(
        tmp_path / "three.onnx", tree=[{**trunk, "complete": False}, chest], calibration=given["calibration"]
    )
    site = own_site(environment={"DICOM_ROUTER_MODEL": str(model)})
    adult, verdict = one_verdict(site, fresh(CHEST))
    assert verdict["path"] == ["trunk", "chest", "adult_chest"]
    assert labels_at_all_levels(site, adult) == [{"bp-trunk"} | ADULT] * 3
    unsure, verdict = one_verdict(site, fresh(CHEST, **UNKNOWN_AGE))
    assert (verdict["outcome"], verdict["path"]) == ("partial", ["trunk", "chest"])
    assert labels_at_all_levels(site, unsure) == [{"bp-trunk"} | OPEN] * 3
    leg, verdict = one_verdict(site, fresh(LEG))
    assert (verdict["path"], labels_at_all_levels(site, leg)) == (["other"], [{"bp-other"}] * 3)
