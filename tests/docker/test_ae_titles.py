"""An AE title for each body part: what plain DICOM sees of the labels."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import pydicom
import pytest
from click.testing import CliRunner
from pydicom.uid import generate_uid

from tests.docker.conftest import Deployment
from tests.docker.test_deployment import send, x_rays
from tests.helpers import from_picture, verdicts
from worker.cli import main
from worker.local.processes import free_port
from worker.local.programs import find_program

TITLES = ("ADULTCHEST", "PEDIATRICCHEST", "ABDOMINAL", "SPINE", "OTHER", "REVIEW", "CHEST")
LABELS = ("bp-adult_chest", "bp-pediatric_chest", "bp-abdominal", "bp-spine", "bp-other", "bp-review", "bp-chest")
CALLER = "VIEWER"


class Viewer:
    """A DICOM node that only speaks C-FIND and C-MOVE. ports: of the AE titles. port: its own."""

    def __init__(self, address: str, ports: Mapping[str, int], port: int) -> None:
        self._address, self._ports, self._port = address, ports, port

    def find(self, title: str, level: str, wanted: str, caller: str = CALLER, **keys: str) -> list[str]:
        """Values of `wanted` (a keyword) in the answers to a C-FIND; keys: what to match."""
        said = self._run("findscu", title, level, caller, {**keys, wanted: ""})
        tag = pydicom.datadict.tag_for_keyword(wanted)
        assert tag is not None
        number = f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
        answers = said.split("Find Response")[1:]
        # A UID of odd length is padded with NUL.
        return [
            match[1].rstrip("\0")
            for answer in answers
            for match in re.finditer(re.escape(number) + r" \S+ \[(.*?)\s*\]", answer)
        ]

    def move(self, title: str, level: str, folder: Path, **keys: str) -> set[str]:
        """SOP Instance UIDs of what a C-MOVE to ourselves brings into the folder."""
        folder.mkdir()
        self._run("movescu", title, level, CALLER, keys, "-aem", CALLER, "+P", str(self._port), "-od", str(folder))
        return {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in folder.iterdir()}

    def _run(self, name: str, title: str, level: str, caller: str, keys: Mapping[str, str], *more: str) -> str:
        program = find_program(name)
        query = [word for key, value in keys.items() for word in ("-k", f"{key}={value}")]
        command = [*program.command, "-v", "-S", "-aet", caller, "-aec", title, "-k", f"QueryRetrieveLevel={level}"]
        address = [self._address, str(self._ports[title])]
        done = subprocess.run(
            [*command, *query, *more, *address], env=program.env, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Viewer]]:
    ports = {title: free_port() for title in TITLES}
    viewer = Viewer("127.0.0.1", ports, free_port())
    deployment = Deployment(
        tmp_path_factory.mktemp("site"),
        "dicom-router-test-titles",
        files=("compose.ae-titles.yaml", "compose.test.yaml"),
        **{f"ROUTER_{title}_PORT": str(port) for title, port in ports.items()},
    )
    modalities = {"DicomModalities": {"viewer": [CALLER, "host.docker.internal", viewer._port]}}
    (deployment.docker / "orthanc/conf.d/modalities.json").write_text(json.dumps(modalities))
    deployment.init()
    with deployment.running():
        yield deployment, viewer


def judged_as(part: str, number: int, shared: Path) -> list[Path]:
    """Pictures of a body part that the model is sure of: what it is not sure of gets another label."""
    frame = pd.read_csv(shared / "data/xray/manifest.csv")
    files = frame[(frame["split"] == "dev") & (frame["class"] == part)]["file"].iloc[::12]
    paths = [shared / "data/xray" / file for file in files][:40]
    said = CliRunner().invoke(main, ["classify", *map(str, paths), "--format", "json"])
    sure = {row["path"] for row in json.loads(said.output) if (row["outcome"], row["body_part"]) == ("judged", part)}
    return [path for path in paths if str(path) in sure][:number]


@pytest.fixture(scope="module")
def study(site: tuple[Deployment, Viewer], shared: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """A study of two chests and two spines, each in a series of its own, and a study of a spine alone.

    The first study's UID; and, by label, what carries it: SOP Instance UID to Series Instance UID.
    """
    both, alone = generate_uid(), generate_uid()
    chests, spines = judged_as("adult_chest", 2, shared), judged_as("spine", 3, shared)
    uids: dict[str, tuple[str, str]] = {}
    by_label: dict[str, dict[str, str]] = {}
    with site[0].archive() as archive:
        for where, path in [*((both, path) for path in (*chests, *spines[:2])), (alone, spines[2])]:
            series = generate_uid()
            data = from_picture(path, where, series)
            uids[archive.upload(data)] = (str(pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID), series)
        for instance, verdict in verdicts(archive, list(uids)).items():
            for label in verdict["labels"]:
                by_label.setdefault(label, {})[uids[instance][0]] = uids[instance][1]
    return both, by_label


def test_an_ae_title_shows_the_studies_of_its_body_part_alone(
    site: tuple[Deployment, Viewer], study: tuple[str, dict[str, dict[str, str]]]
) -> None:
    _, viewer = site
    both, by_label = study
    assert {label: len(uids) for label, uids in by_label.items()} == {
        "bp-chest": 2,
        "bp-adult_chest": 2,
        "bp-spine": 3,
    }
    assert viewer.find("ADULTCHEST", "STUDY", "StudyInstanceUID") == [both]
    assert viewer.find("CHEST", "STUDY", "StudyInstanceUID") == [both]
    assert len(viewer.find("SPINE", "STUDY", "StudyInstanceUID")) == 2
    assert viewer.find("ABDOMINAL", "STUDY", "StudyInstanceUID") == []


def test_at_series_level_a_mixed_study_shows_what_has_the_label_alone(
    site: tuple[Deployment, Viewer], study: tuple[str, dict[str, dict[str, str]]]
) -> None:
    _, viewer = site
    both, by_label = study
    found = viewer.find("ADULTCHEST", "SERIES", "SeriesInstanceUID", StudyInstanceUID=both)
    assert sorted(found) == sorted(by_label["bp-adult_chest"].values())


def test_a_move_of_a_series_brings_that_and_a_move_of_a_mixed_study_brings_all_of_it(
    site: tuple[Deployment, Viewer], study: tuple[str, dict[str, dict[str, str]]], tmp_path: Path
) -> None:
    _, viewer = site
    both, by_label = study
    chest, series = next(iter(by_label["bp-adult_chest"].items()))
    keys = {"StudyInstanceUID": both, "SeriesInstanceUID": series}
    assert viewer.move("ADULTCHEST", "SERIES", tmp_path / "series", **keys) == {chest}
    # What the README warns of: the level of the move decides, not the title alone.
    whole = viewer.move("ADULTCHEST", "STUDY", tmp_path / "study", StudyInstanceUID=both)
    assert len(whole) == 4 and whole > by_label["bp-adult_chest"].keys()


def test_a_move_of_what_has_another_label_brings_nothing(
    site: tuple[Deployment, Viewer], study: tuple[str, dict[str, dict[str, str]]], tmp_path: Path
) -> None:
    _, viewer = site
    both, by_label = study
    spine = next(resource for resource in by_label["bp-spine"].values())
    assert (
        viewer.move("ADULTCHEST", "SERIES", tmp_path / "spine", StudyInstanceUID=both, SeriesInstanceUID=spine) == set()
    )


def test_an_unknown_caller_sees_nothing(site: tuple[Deployment, Viewer], study: object) -> None:
    _, viewer = site
    assert viewer.find("ADULTCHEST", "STUDY", "StudyInstanceUID", caller="STRANGER") == []


def test_a_hundred_x_rays_are_found_under_the_titles_of_their_labels_alone(
    site: tuple[Deployment, Viewer], study: tuple[str, dict[str, dict[str, str]]]
) -> None:
    deployment, viewer = site
    with deployment.archive() as archive:
        found = verdicts(archive, send(archive, x_rays(100)), seconds=180)
        assert {label for verdict in found.values() for label in verdict["labels"]} >= {"bp-other"}
        for title, label in zip(TITLES, LABELS):
            expected = {study["MainDicomTags"]["StudyInstanceUID"] for study in archive.find_label(label, "study")}
            assert set(viewer.find(title, "STUDY", "StudyInstanceUID")) == expected
            assert title != "OTHER" or len(expected) >= 90


def test_what_is_sent_to_an_ae_title_gets_its_label_from_its_pixels(
    site: tuple[Deployment, Viewer], shared: Path, tmp_path: Path
) -> None:
    deployment, viewer = site
    (tmp_path / "leg.dcm").write_bytes(from_picture(next((shared / "data/xray/images/other").iterdir())))
    uid = pydicom.dcmread(tmp_path / "leg.dcm").SOPInstanceUID
    storescu = find_program("storescu")
    port = str(viewer._ports["ADULTCHEST"])
    command = [*storescu.command, "-aet", CALLER, "-aec", "ADULTCHEST", "127.0.0.1", port, str(tmp_path / "leg.dcm")]
    subprocess.run(command, env=storescu.env, check=True, timeout=60)
    with deployment.archive() as archive:
        found = archive._client.post(f"{archive._client.url}/tools/lookup", content=uid).json()
        [instance] = [resource["ID"] for resource in found]
        verdicts(archive, [instance])
        labels = archive.labels([instance])[instance]
    assert labels and "bp-adult_chest" not in labels
