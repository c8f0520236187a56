"""Manifests and the list of public images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from train.cli import main
from train.data.classes import PAPER
from train.data.manifest import read_licences, read_manifest, years
from train.data.patients import group_of
from train.data.sources import LIST, read_sources
from worker.errors import ConfigError


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_manifest_needs_two_columns_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    frame = read_manifest(write(tmp_path / "m.csv", "file,class", "a.png,spine", "b.png,chest"))
    assert list(frame["path"]) == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert list(frame["dataset"]) == ["", ""]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file,kind", "a.png,spine"], "no column 'class'"),
        (["file,class", "a.png,review"], "class 'review' is reserved for the router's own labels"),
        (["file,class", "a.png,膝"], "class '膝' cannot be a label; use 1 to 40 of"),
        (["file,class,split", "a.png,spine,dev"], "no row has split 'test'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_manifest(write(tmp_path / "m.csv", *lines), "test")


@pytest.mark.parametrize(
    ("text", "expected"), [("6", 6), (0.25, 0.25), ("8-9 (patient range)", 8.5), ("50+", np.nan), ("mid 50s", np.nan)]
)
def test_ages_are_in_years_and_a_range_gives_its_middle(text: object, expected: float) -> None:
    np.testing.assert_equal(years(text), expected)


def test_a_chest_of_unknown_age_admits_both_chests() -> None:
    mask = PAPER.mask(["spine", "chest"])
    assert [PAPER.names[i] for i in np.nonzero(mask[0])[0]] == ["spine"]
    assert [PAPER.names[i] for i in np.nonzero(mask[1])[0]] == ["adult_chest", "pediatric_chest"]


def test_images_of_a_patient_are_a_group_and_each_unknown_patient_is_its_own(tmp_path: Path) -> None:
    rows = ["a,spine,X,7", "b,spine,X,7", "c,spine,Y,7", "d,spine,X,", "e,spine,X,"]
    groups = group_of(read_manifest(write(tmp_path / "m.csv", "file,class,dataset,patient", *rows)))
    assert groups[0] == groups[1]
    assert len(set(groups)) == 4


def test_other_names_of_columns_and_classes_are_accepted(tmp_path: Path) -> None:
    frame = read_manifest(
        write(tmp_path / "m.csv", "path,label,license,patient", "a.png,Adults,CC0,7", "b.png,spine,,")
    )
    assert list(frame["class"]) == ["adult_chest", "spine"]
    assert list(frame["licence"]) == ["CC0", ""]
    assert list(frame["patient"]) == ["7", ""]


def test_a_parquet_manifest_reads_as_its_csv(tmp_path: Path) -> None:
    write(tmp_path / "m.csv", "file,class,patient,age,split", "a.png,spine,7,8,dev", "b.png,chest,,,dev")
    pd.read_csv(tmp_path / "m.csv").to_parquet(tmp_path / "m.parquet")
    from_csv, from_parquet = (read_manifest(tmp_path / f"m.{kind}") for kind in ("csv", "parquet"))
    pd.testing.assert_frame_equal(from_csv, from_parquet, check_dtype=False)


def test_parquet_without_its_package_is_refused_with_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"m\.parquet: .* pyarrow; install dicom-imaging-router\[parquet\]"):
        read_manifest(tmp_path / "m.parquet")


def test_a_file_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.png is listed more than once"):
        read_manifest(write(tmp_path / "m.csv", "file,class", "a.png,spine", "a.png,other"))


def test_only_rows_with_an_allowed_licence_are_kept_and_the_others_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ["a,spine,CC0", "b,spine,CC BY 4.0", "c,spine,research only", "d,spine,", "e,spine,research only"]
    manifest = write(tmp_path / "m.csv", "file,class,licence", *rows)
    frame = read_manifest(manifest, licences=read_licences("cc0, CC BY*"))
    assert list(frame["file"]) == ["a", "b"]
    assert caplog.messages == [
        "3 of 5 images are left out, their licence is not on the list: 2 x 'research only'; 1 x 'not stated'"
    ]
    listed = write(tmp_path / "licences.txt", "research only", "not stated")
    assert list(read_manifest(manifest, licences=read_licences(str(listed)))["file"]) == ["c", "d", "e"]
    with pytest.raises(ConfigError, match="no image has a licence on the list"):
        read_manifest(manifest, licences=["GPL"])


def test_the_public_list_is_the_shared_manifest_without_the_pixels(shared: Path) -> None:
    listed = read_sources()
    frame = pd.read_csv(shared / "data/xray/manifest.csv", dtype=str, keep_default_na=False)
    there = frame.set_index(["source_repo", "source_path"])
    named = listed.set_index(["repo", "path"])
    assert set(there.index) == set(named.index)
    for column in ("class", "split", "dataset", "licence", "patient", "age"):
        assert (there[column] == named[column].reindex(there.index)).all(), column
    assert LIST.stat().st_size < 400_000


def test_fetched_public_images_become_a_manifest_and_the_rest_is_listed(tmp_path: Path) -> None:
    first = read_sources().iloc[0]
    file = tmp_path / "repos" / first["repo"] / first["path"]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    out = tmp_path / "m.csv"
    done = CliRunner().invoke(main, ["manifest", "--sources", str(tmp_path / "repos"), "--out", str(out)])
    assert done.exit_code == 1
    assert f"git -C {tmp_path}/repos/{first['repo']} checkout {first['commit']}" in done.output
    missing = len(read_sources()) - 1
    assert f"{missing} images are missing" in done.output
    [row] = read_manifest(out).to_dict("records")
    assert (row["path"], row["class"], row["split"]) == (str(file), first["class"], first["split"])
    assert len(pd.read_csv(tmp_path / "m-missing.csv")) == missing


def test_no_patient_of_the_shared_images_is_in_both_splits(shared: Path) -> None:
    manifest = shared / "data/xray/manifest.csv"
    dev, test = (read_manifest(manifest, split) for split in ("dev", "test"))
    known_dev, known_test = (set(group_of(frame)[frame["patient"] != ""]) for frame in (dev, test))
    assert known_dev
    assert known_test
    assert not known_dev & known_test
    assert not set(dev["file"]) & set(test["file"])
