"""From upload to label: what a PACS sees of the router on a good day."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

from tests.end_to_end.conftest import Running
from tests.helpers import HUNG, eventually, fresh, read, to_bytes
from worker.contract import ROUTES, redis_key
from worker.errors import BadInput
from worker.local.programs import find_program

CHEST, LEG = "RG1_J2KI.dcm", "RG3_J2KI.dcm"


def class_label(verdict: dict[str, object]) -> str:
    """The one label that says what the image is: its class, or review."""
    return f"bp-{verdict['body_part'] if verdict['outcome'] == 'judged' else 'review'}"


def test_an_upload_over_rest_gets_labels_at_three_levels_and_metadata(site: Running) -> None:
    [leg] = site.upload(fresh(LEG))
    verdict = site.verdicts([leg])[leg]
    assert verdict["outcome"] == "judged"
    assert verdict["body_part"] == "other"
    stored = site.stored(leg)
    for resource in (leg, stored.series, stored.study):
        assert site.labels(resource) == {"bp-other"}
    assert site.metadata(leg)["BodyPart"] == "other"


def test_a_verdict_can_be_cited_and_recomputed(site: Running) -> None:
    [leg] = site.upload(fresh(LEG))
    verdict = site.verdicts([leg])[leg]
    assert sum(verdict["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert verdict["confidence"] == max(verdict["probabilities"].values())
    assert len(verdict["model_sha256"]) == 64
    assert verdict["header"] == "EXTREMITY"
    assert set(verdict["ms"]) == {"fetch", "decode", "infer"}
    assert len(site.metadata(leg)["BodyPartVerdict"]) < 1024


def test_an_upload_over_c_store_gets_its_verdict_too(site: Running, tmp_path: Path) -> None:
    path = tmp_path / "leg.dcm"
    path.write_bytes(fresh(LEG))
    storescu = find_program("storescu")
    command = [*storescu.command, "-xw", "127.0.0.1", str(site.stack.dicom_port), str(path)]
    subprocess.run(command, env=storescu.env, check=True, timeout=HUNG)
    # Uploading it again only tells its id: Orthanc answers AlreadyStored.
    [leg] = site.upload(path.read_bytes())
    assert site.verdicts([leg])[leg]["body_part"] == "other"


def test_queries_by_label_and_by_metadata_find_exactly_what_they_should(site: Running) -> None:
    chest, leg = site.upload(fresh(CHEST), fresh(LEG))
    verdicts = site.verdicts([chest, leg])
    of_chest, of_leg = (class_label(verdicts[instance]) for instance in (chest, leg))
    assert of_chest != of_leg
    for instance, own, other in ((chest, of_chest, of_leg), (leg, of_leg, of_chest)):
        for level, resource in (
            ("Instance", instance),
            ("Series", site.stored(instance).series),
            ("Study", site.stored(instance).study),
        ):
            assert resource in site.find(Level=level, Labels=[own])
            assert resource not in site.find(Level=level, Labels=[other])
    values = {instance: site.metadata(instance)["BodyPart"] for instance in (chest, leg)}
    for instance, value in values.items():
        found = site.find(Level="Instance", MetadataQuery={"BodyPart": value})
        assert {chest, leg} & found == {instance}


def test_what_is_no_x_ray_is_left_alone(site: Running) -> None:
    ct, report = site.upload(fresh("CT_small.dcm"), fresh("test-SR.dcm"))
    [leg] = site.upload(fresh(LEG))
    site.verdicts([leg])  # the change log is followed in order: both others have been passed
    for instance in (ct, report):
        stored = site.stored(instance)
        assert all(site.labels(resource) == set() for resource in (instance, stored.series, stored.study))
        assert site.metadata(instance) == {}


def test_an_object_of_an_x_ray_modality_that_is_no_image_gets_no_label(site: Running) -> None:
    [report] = site.upload(fresh("test-SR.dcm", Modality="CR"))
    assert site.verdicts([report])[report]["outcome"] == "not_an_xray"
    stored = site.stored(report)
    assert all(site.labels(resource) == set() for resource in (report, stored.series, stored.study))
    assert "BodyPart" not in site.metadata(report)


def test_a_corrupt_file_gets_failed_with_its_reason(site: Running) -> None:
    dataset = read(LEG)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.PixelData = encapsulate([b"\xff\x4f" + bytes(2000)])
    dataset["PixelData"].VR = "OB"
    [broken] = site.upload(to_bytes(dataset))
    verdict = site.verdicts([broken])[broken]
    assert (verdict["outcome"], verdict["error"]["kind"]) == ("failed", "CorruptPixels")
    assert "(7FE0,0010) Pixel Data" in verdict["error"]["message"]
    assert site.labels(broken) == {"bp-failed"}
    assert site.metadata(broken)["BodyPart"] == "failed"


def test_an_image_without_pixels_gets_failed_with_its_reason(site: Running) -> None:
    dataset = read(LEG)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    del dataset.PixelData
    [empty] = site.upload(to_bytes(dataset))
    assert site.verdicts([empty])[empty]["error"]["kind"] == "NoPixels"


def test_a_header_that_disagrees_with_the_pixels_is_labelled(site: Running) -> None:
    [leg] = site.upload(fresh(LEG, BodyPartExamined="CHEST"))
    assert site.verdicts([leg])[leg]["body_part"] == "other"
    assert site.labels(leg) == {"bp-other", "bp-mismatch"}


def test_reclassify_makes_a_new_verdict(site: Running) -> None:
    [leg] = site.upload(fresh(LEG))
    site.verdicts([leg])
    before = site.ledger.inferences()
    assert site.archive.reclassify(leg)
    eventually(lambda: sum(site.ledger.inferences().values()) == sum(before.values()) + 1)
    assert site.labels(leg) == {"bp-other"}


@pytest.mark.parametrize(
    ("instance", "status"),
    [("00000000-00000000-00000000-00000000-00000000", 404), ("no-id", 400)],
)
def test_reclassify_refuses_what_it_cannot_queue(site: Running, instance: str, status: int) -> None:
    url = f"{site.stack.url}{ROUTES}/instances/{instance}/reclassify"
    assert site.archive._client.post(url).status_code == status
    assert site.archive._client.get(url).status_code == 405


def test_reclassify_refuses_another_modality(site: Running) -> None:
    [ct] = site.upload(fresh("CT_small.dcm"))
    url = f"{site.stack.url}{ROUTES}/instances/{ct}/reclassify"
    assert site.archive._client.post(url).status_code == 409


def test_labels_of_others_survive_everything(site: Running) -> None:
    [leg] = site.upload(fresh(LEG))
    site.verdicts([leg])
    stored = site.stored(leg)
    levels = {"instance": leg, "series": stored.series, "study": stored.study}
    for level, resource in levels.items():
        for label in ("bp-teaching", "urgent"):
            site.archive.add_label(level, resource, label)  # type: ignore[arg-type]
    # Even a verdict that claims a foreign label (a forged one, or of another prefix) must not cost it.
    forged = {**site.verdicts([leg])[leg], "labels": ["bp-spine", "urgent"], "at": "forged"}
    site.archive.write_verdict(leg, "spine", forged)
    for level, resource in levels.items():
        site.archive.add_label(level, resource, "bp-spine")  # type: ignore[arg-type]
    assert site.archive.reclassify(leg)
    eventually(lambda: site.verdicts([leg])[leg]["at"] != "forged")
    for resource in levels.values():
        assert site.labels(resource) == {"bp-teaching", "urgent", "bp-other"}


def test_two_workers_on_one_study_leave_the_union_of_labels(site: Running) -> None:
    study = generate_uid()
    files = [fresh(CHEST if n % 2 else LEG, study=study, PatientID="UNION") for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        ids = [instance for [instance] in pool.map(site.upload, files)]
    expected = {label for verdict in site.verdicts(ids).values() for label in verdict["labels"]}
    assert expected == {"bp-chest", "bp-adult_chest", "bp-other"}
    studies = {site.stored(instance).study for instance in ids}
    assert len(studies) == 1
    assert site.labels(studies.pop()) == expected
    for instance in ids:
        assert site.labels(site.stored(instance).series) == site.labels(instance)


def test_200_uploads_by_4_clients_each_get_exactly_one_verdict_and_class_label(site: Running) -> None:
    before = site.ledger.inferences()
    files = [fresh(LEG if n % 4 else CHEST) for n in range(200)]
    with ThreadPoolExecutor(4) as pool:
        ids = [instance for [instance] in pool.map(site.upload, files)]
    verdicts = site.verdicts(ids, seconds=240)
    for instance, verdict in verdicts.items():
        assert site.labels(instance) == {f"bp-{name}" for name in verdict["path"]}
        assert class_label(verdict) in site.labels(instance)
    # No fault happened, so each image was inferred once, by one of two workers.
    by_worker = {name: n - before.get(name, 0) for name, n in site.ledger.inferences().items()}
    assert sum(by_worker.values()) == 200
    assert len([n for n in by_worker.values() if n >= 20]) == 2


def test_logs_name_instances_only(site: Running) -> None:
    name = "SECRETNAME^DO^NOT^LOG"
    [leg] = site.upload(fresh(LEG, PatientName=name, PatientBirthDate="not a date"))
    site.verdicts([leg])
    for log in site.stack.layout.data.glob("*.log"):
        text = log.read_text(errors="replace")
        assert "SECRETNAME" not in text
        assert "not a date" not in text


def test_orthanc_refuses_what_is_no_dicom_with_a_clear_error(site: Running) -> None:
    with pytest.raises(BadInput, match="Orthanc refuses the file"):
        site.upload(b"no DICOM")


def test_whatever_is_noted_in_redis_for_an_image_or_a_worker_has_an_end(site: Running) -> None:
    site.verdicts(site.upload(fresh(LEG), fresh(CHEST)))
    ours = redis_key(site.archive.identifier(), "")
    keys = {key.decode().removeprefix(ours): site.redis("TTL", key) for key in site.redis("KEYS", f"{ours}*")}
    # One an archive; they are replaced in place.
    endless = {name for name, end in keys.items() if end == -1}
    assert endless <= {"position", "seen", "walk"}
    assert {name.partition(":")[0] for name in keys} >= {"position", "workers", "inferences"}
