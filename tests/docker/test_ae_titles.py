"""An AE title for each body part: what plain DICOM sees of the labels."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import pydicom
import pytest
from pydicom.uid import generate_uid

from tests.docker.conftest import Deployment, verdicts
from tests.helpers import from_picture
from worker.archive import Archive
from worker.stack.processes import free_port
from worker.stack.programs import find_program

TITLES = ("ADULTCHEST", "PEDIATRICCHEST", "ABDOMINAL", "SPINE", "OTHER", "REVIEW")
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
        return [one[1] for answer in answers for one in re.finditer(re.escape(number) + r" \S+ \[(.*?)\s*\]", answer)]

    def move(self, title: str, level: str, folder: Path, **keys: str) -> set[str]:
        """SOP Instance UIDs of what a C-MOVE to ourselves brings into the folder."""
        folder.mkdir()
        self._run("movescu", title, level, CALLER, keys, "-aem", CALLER, "+P", str(self._port), "-od", str(folder))
        return {str(pydicom.dcmread(one, stop_before_pixels=True).SOPInstanceUID) for one in folder.iterdir()}

    def _run(self, name: str, title: str, level: str, caller: str, keys: Mapping[str, str], *more: str) -> str:
        program = find_program(name, print)
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
    one = Deployment(
        tmp_path_factory.mktemp("site"),
        "dicom-router-test-titles",
        files=("compose.ae-titles.yaml", "compose.test.yaml"),
        **{f"ROUTER_{title}_PORT": str(port) for title, port in ports.items()},
    )
    shutil.copy(Path(__file__).parent / "compose.test.yaml", one.docker)
    modalities = {"DicomModalities": {"viewer": [CALLER, "host.docker.internal", viewer._port]}}
    (one.docker / "orthanc/conf.d/modalities.json").write_text(json.dumps(modalities))
    one.init()
    try:
        one.up()
        yield one, viewer
    finally:
        one.down()


@pytest.fixture(scope="module")
def study(site: tuple[Deployment, Viewer], shared: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """A study of chests and spines, each in a series of its own, and a study of spines alone.

    The first study's UID; and, by label, what carries it: SOP Instance UID to Series Instance UID.
    """
    frame = pd.read_csv(shared / "data/xray/manifest.csv")
    frame = frame[frame["split"] == "dev"]
    both, spines = generate_uid(), generate_uid()
    archive = site[0].archive()
    ids, uids = [], []
    for part, number, where in (("adult_chest", 6, both), ("spine", 3, both), ("spine", 3, spines)):
        for file in frame[frame["class"] == part]["file"].iloc[:: len(frame[frame["class"] == part]) // number][
            :number
        ]:
            series = generate_uid()
            data = from_picture(shared / "data/xray" / file, where, series)
            ids.append(archive.upload(data))
            uids.append((str(pydicom.filereader.dcmread(pydicom.filebase.DicomBytesIO(data)).SOPInstanceUID), series))
    found = verdicts(archive, ids)
    by_label: dict[str, dict[str, str]] = {}
    for instance, (uid, series) in zip(ids, uids):
        for label in found[instance]["labels"]:
            by_label.setdefault(label, {})[uid] = series
    archive.close()
    return both, by_label


def test_an_ae_title_shows_the_studies_of_its_body_part_alone(
    site: tuple[Deployment, Viewer], study: tuple[str, dict[str, dict[str, str]]]
) -> None:
    _, viewer = site
    both, by_label = study
    assert by_label["bp-adult_chest"] and by_label["bp-spine"]
    assert viewer.find("ADULTCHEST", "STUDY", "StudyInstanceUID") == [both]
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
    assert whole >= {*by_label["bp-adult_chest"]} and whole & {*by_label["bp-spine"]}


def test_a_move_of_what_has_another_label_brings_nothing(
    site: tuple[Deployment, Viewer], study: tuple[str, dict[str, dict[str, str]]], tmp_path: Path
) -> None:
    _, viewer = site
    both, by_label = study
    spine = next(one for one in by_label["bp-spine"].values())
    assert (
        viewer.move("ADULTCHEST", "SERIES", tmp_path / "spine", StudyInstanceUID=both, SeriesInstanceUID=spine) == set()
    )


def test_an_unknown_caller_sees_nothing(site: tuple[Deployment, Viewer], study: object) -> None:
    _, viewer = site
    assert viewer.find("ADULTCHEST", "STUDY", "StudyInstanceUID", caller="STRANGER") == []


def test_what_is_sent_to_an_ae_title_gets_its_label_from_its_pixels(
    site: tuple[Deployment, Viewer], shared: Path, tmp_path: Path
) -> None:
    deployment, viewer = site
    (tmp_path / "leg.dcm").write_bytes(from_picture(next((shared / "data/xray/images/other").iterdir())))
    uid = pydicom.dcmread(tmp_path / "leg.dcm").SOPInstanceUID
    storescu = find_program("storescu", print)
    port = str(viewer._ports["ADULTCHEST"])
    command = [*storescu.command, "-aet", CALLER, "-aec", "ADULTCHEST", "127.0.0.1", port, str(tmp_path / "leg.dcm")]
    subprocess.run(command, env=storescu.env, check=True, timeout=60)
    archive: Archive = deployment.archive()
    [instance] = [one["ID"] for one in archive._client.post(f"{archive._client.url}/tools/lookup", content=uid).json()]
    verdicts(archive, [instance])
    labels = archive.labels([instance])[instance]
    archive.close()
    assert labels and "bp-adult_chest" not in labels
