"""The labels of a series and a study are the union over the instances that are there now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from tests.end_to_end.conftest import Running, running
from tests.helpers import eventually, fresh
from tests.proxy import Answer, Proxy, proxy
from worker.contract import UNION_KEY, redis_key
from worker.errors import ArchiveUnavailable, BrokerUnavailable, ConfigError
from worker.inference.classifier import Classifier, ModelCard
from worker.local.programs import DEBIAN_FORKY, private_orthanc
from worker.local.stack import Layout
from worker.orthanc_client import Archive, Stored
from worker.verdict.decide import Verdict
from worker.verdict.record import Recorder

LEG, CHEST = "RG3_J2KI.dcm", "RG1_J2KI.dcm"


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return Classifier(device="cpu").card


@dataclass
class Study:
    """A study in an Orthanc without plugin and workers, so that nothing is written but what a test writes."""

    site: Running
    recorder: Recorder
    card: ModelCard
    uid: str
    id: str = ""

    def add(self, series: str = "") -> Stored:
        """A new X-ray of this study, in a series of its own unless one is given (a SeriesInstanceUID)."""
        [instance] = self.site.upload(fresh(LEG, study=self.uid, series=series, PatientID="UNION"))
        stored = self.site.stored(instance)
        self.id = stored.study
        return stored

    def record(self, **verdicts: Stored) -> None:
        """Record verdicts, such as spine=instance."""
        self.recorder.record(
            self.id,
            {instance.id: Verdict("judged", self.card, (part,), part, 0.9) for part, instance in verdicts.items()},
        )

    def delete(self, instance: Stored) -> None:
        url = f"{self.site.stack.url}/instances/{instance.id}"
        assert self.site.archive._client.delete(url).status_code == 200

    def labels(self) -> set[str]:
        return self.site.labels(self.id)

    def union(self) -> list[str] | None:
        return self.site.union("study", self.id)

    def check(self, *expected: str) -> None:
        """The labels of the study, and its union, are these; and those of each series by its instances."""
        ours = {label for label in self.labels() if label.startswith("bp-")} - {"bp-teaching"}
        assert (ours, self.union() or []) == (set(expected), sorted(expected))
        by_series: dict[str, set[str]] = {}
        for instance in self.site.archive.in_study(self.id):
            labels = instance.verdict["labels"] if instance.verdict else []
            assert set(labels) == {label for label in instance.labels if label != "bp-teaching"}
            by_series.setdefault(instance.series, set()).update(labels)
        for series, labels_of_series in by_series.items():
            assert self.site.labels(series) - {"bp-teaching"} == labels_of_series
            assert self.site.union("series", series) == (sorted(labels_of_series) or None)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(Layout(tmp_path_factory.mktemp("quiet"), workers=0, with_plugin=False)) as site:
        yield site


@pytest.fixture
def study(quiet: Running, card: ModelCard) -> Study:
    return Study(quiet, Recorder(quiet.archive, quiet.ledger, "bp-"), card, generate_uid())


@pytest.fixture
def between(quiet: Running, study: Study) -> Iterator[Proxy]:
    """A proxy through which the study's recorder writes."""
    with proxy() as gateway:
        gateway.upstream = quiet.stack.url
        with Archive(quiet.settings.at(gateway.url)) as archive:
            study.recorder = replace(study.recorder, archive=archive)
            yield gateway


def test_labels_of_deleted_instances_go_with_the_next_verdict_in_the_study(study: Study) -> None:
    shared = generate_uid()
    spine, hand, neighbour = study.add(), study.add(shared), study.add(shared)
    study.record(spine=spine, other=hand, abdominal=neighbour)
    study.check("bp-abdominal", "bp-other", "bp-spine")
    study.delete(spine)
    study.delete(neighbour)
    chest = study.add()  # in a third series: that of `hand` must lose bp-abdominal all the same
    study.record(adult_chest=chest)
    study.check("bp-adult_chest", "bp-other")
    assert study.site.labels(hand.series) == {"bp-other"}


def test_a_users_label_with_our_prefix_survives(study: Study) -> None:
    spine, hand = study.add(), study.add()
    study.site.archive.add_label("study", study.id, "bp-teaching")
    study.site.archive.add_label("series", hand.series, "bp-teaching")
    study.record(spine=spine, other=hand)
    study.site.archive.add_label("series", hand.series, "bp-spine")  # ours on the study, theirs here
    study.delete(spine)
    study.record(abdominal=hand)
    assert study.labels() == {"bp-teaching", "bp-abdominal"}
    assert study.site.labels(hand.series) == {"bp-teaching", "bp-spine", "bp-abdominal"}


def test_a_study_that_was_recorded_before_there_were_unions_gets_them(study: Study) -> None:
    spine, hand = study.add(), study.add()
    study.record(spine=spine, other=hand)
    for level, resource in (("study", study.id), ("series", spine.series), ("series", hand.series)):
        study.site.archive.write_union(level, resource, [])  # type: ignore[arg-type]
    study.record(abdominal=spine)
    study.check("bp-abdominal", "bp-other")


@pytest.mark.parametrize("text", ["", "null", '"bp-spine"', "[1]", '{"bp-spine": 1}', "bp-spine"])
def test_a_union_that_cannot_be_read_counts_as_none(study: Study, text: str) -> None:
    hand = study.add()
    study.record(spine=hand)
    url = f"{study.site.stack.url}/studies/{study.id}/metadata/{UNION_KEY}"
    assert study.site.archive._client.put(url, content=text).status_code == 200
    study.record(other=hand)
    study.check("bp-other")


def test_another_prefix_is_somebody_elses_and_stays_noted(study: Study) -> None:
    hand = study.add()
    study.record(spine=hand)
    recorder = replace(study.recorder, prefix="body-")
    recorder.record(study.id, {hand.id: Verdict("judged", study.card, ("other",), "other", 0.9)})
    assert study.labels() == {"bp-spine", "body-other"}
    assert study.union() == ["body-other", "bp-spine"]


def test_whenever_a_worker_dies_the_union_names_what_it_wrote_and_the_next_one_mends_all(
    study: Study, between: Proxy
) -> None:
    writes = 0

    def fail_after(number: int) -> Callable[[str, str], Answer | None]:
        left = [number]

        def answer(method: str, path: str) -> Answer | None:
            nonlocal writes
            if method in ("PUT", "DELETE"):
                left[0] -= 1
                writes += 1
            return Answer(503) if left[0] < 0 else None

        return answer

    for number in range(100):
        study.uid = generate_uid()
        spine, hand = study.add(), study.add()
        study.record(spine=spine, other=hand)
        study.site.archive.add_label("study", study.id, "bp-teaching")
        gone = study.add()
        study.record(pediatric_chest=gone)
        study.delete(gone)
        writes = 0
        between.answer = fail_after(number)
        try:
            study.record(abdominal=spine)
            died = False
        except ArchiveUnavailable:
            died = True
        between.well()
        assert study.labels() - {"bp-teaching"} <= set(study.union() or ())
        for series in (spine.series, hand.series):
            assert study.site.labels(series) <= set(study.site.union("series", series) or ())
        study.record(adult_chest=spine)
        study.check("bp-adult_chest", "bp-other")
        assert study.labels() == {"bp-teaching", "bp-adult_chest", "bp-other"}
        if not died:
            break
    assert not died
    assert writes == number >= 10


@pytest.mark.parametrize("extended_find", [True, False])
def test_remove_finds_studies_whose_judged_instances_are_all_gone(
    study: Study, monkeypatch: pytest.MonkeyPatch, extended_find: bool
) -> None:
    hand, left = study.add(), study.add()
    study.record(other=hand)
    study.site.archive.add_label("study", study.id, "bp-teaching")
    study.delete(hand)
    if not extended_find:
        monkeypatch.setattr(Archive, "_finds_metadata", lambda self: False)
    assert study.id in study.site.archive.recorded_studies()
    assert study.recorder.remove(study.id, dry_run=True) == []
    assert study.labels() == {"bp-teaching", "bp-other"}
    assert study.recorder.remove(study.id) == []
    assert (study.labels(), study.union()) == ({"bp-teaching"}, None)
    assert study.id not in study.site.archive.recorded_studies()
    assert study.site.labels(left.series) == set()


def test_remove_takes_verdicts_and_unions_that_cannot_be_read(study: Study) -> None:
    hand = study.add()
    study.record(other=hand)
    study.site.archive.write_verdict(hand.id, "other", {"outcome": "judged", "labels": None})
    assert study.id in study.site.archive.recorded_studies()
    assert study.recorder.remove(study.id) == [hand.id]
    assert study.site.labels(hand.id) == study.labels() == set()
    assert study.site.metadata(hand.id) == {}
    assert (study.union(), study.site.union("series", hand.series)) == (None, None)


def lock_key(study: Study) -> str:
    return redis_key(study.site.archive.identifier(), "lock", study.id)


def test_the_lock_lasts_as_long_as_orthanc_is_slow(
    study: Study, between: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.ledger.LOCK_SECONDS", 4.0)
    instances = {part: study.add() for part in ("spine", "other", "abdominal", "adult_chest")}
    key, lost = lock_key(study), []

    def look(method: str, path: str) -> None:
        if not study.site.redis("EXISTS", key):
            lost.append(path)

    between.answer, between.pause = look, 0.3
    study.record(**instances)
    between.pause = 0
    assert len(between.requests) * 0.3 > 4.0
    assert not lost
    study.check(*(f"bp-{part}" for part in instances))


def test_who_has_lost_the_lock_removes_nothing(study: Study, between: Proxy) -> None:
    spine, hand = study.add(), study.add()
    study.record(spine=spine, other=hand)

    def lose(method: str, path: str) -> None:
        if method == "PUT":
            study.site.redis("SET", lock_key(study), "another worker's")

    between.answer = lose
    with pytest.raises(BrokerUnavailable, match=f"the lock of study {study.id} was lost"):
        study.record(abdominal=spine)
    between.well()
    assert not [request for request in between.requests if request.startswith("DELETE")]
    assert study.site.redis("GET", lock_key(study)) == b"another worker's"
    assert "bp-spine" in study.labels()
    study.site.redis("DEL", lock_key(study))
    study.record(abdominal=spine)
    study.check("bp-abdominal", "bp-other")


def test_a_study_that_another_worker_records_is_waited_for(study: Study) -> None:
    hand = study.add()
    with study.recorder.ledger.study_lock(study.id):
        thread = threading.Thread(target=study.record, kwargs={"other": hand})
        thread.start()
        thread.join(0.5)
        assert study.labels() == set()
    thread.join(60)
    study.check("bp-other")


def test_revisions_are_kept_where_orthanc_checks_them(
    own_site: Callable[..., Running], card: ModelCard, tmp_path: Path
) -> None:
    try:
        program = private_orthanc(DEBIAN_FORKY)
    except ConfigError as error:
        pytest.skip(f"{error}")
    site = own_site(workers=0, with_plugin=False, program=program, orthanc={"CheckRevisions": True})
    assert site.archive.system()["CheckRevisions"] is True
    study = Study(site, Recorder(site.archive, site.ledger, "bp-"), card, generate_uid())
    spine, hand = study.add(), study.add()
    study.record(spine=spine, other=hand)
    study.delete(hand)
    study.record(abdominal=spine)
    study.check("bp-abdominal")
    study.recorder.remove(study.id)
    assert (study.labels(), study.union()) == (set(), None)


def test_a_deleted_chest_leaves_no_label_once_another_image_of_its_study_is_judged(site: Running) -> None:
    study = generate_uid()
    chest, leg = site.upload(*(fresh(name, study=study, PatientID="UNION") for name in (CHEST, LEG)))
    labels = {label for verdict in site.verdicts([chest, leg]).values() for label in verdict["labels"]}
    stored = site.stored(leg)
    assert site.labels(stored.study) == labels
    assert set(site.union("study", stored.study) or ()) == labels
    assert labels == {"bp-chest", "bp-adult_chest", "bp-other"}
    site.archive._client.delete(f"{site.stack.url}/instances/{chest}")
    site.verdicts(site.upload(fresh(LEG, study=study, PatientID="UNION")))
    assert site.labels(stored.study) == {"bp-other"}
    assert site.union("study", stored.study) == ["bp-other"]


@pytest.mark.parametrize("text", ['"bp-spine"', "null", "[1]", "{}"])
def test_a_verdict_whose_labels_are_of_a_wrong_shape_is_replaced(site: Running, text: str) -> None:
    study = generate_uid()
    leg, neighbour = site.upload(*(fresh(LEG, study=study, PatientID="UNION") for _ in range(2)))
    site.verdicts([leg, neighbour])
    url = f"{site.stack.url}/instances/{leg}/metadata/5511"
    assert site.archive._client.put(url, content=f'{{"outcome": "judged", "labels": {text}}}').status_code == 200
    assert site.stored(leg).verdict is None
    assert site.archive.reclassify(neighbour)  # records the study that holds it, too
    assert site.archive.reclassify(leg)
    eventually(lambda: site.stored(leg).verdict, 60, "a verdict that can be read")
    assert site.labels(leg) == site.labels(site.stored(leg).study) == {"bp-other"}
    eventually(lambda: not any(site.ledger.queue_lengths().values()), 60, "an end of all chunks")
