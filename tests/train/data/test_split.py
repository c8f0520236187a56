"""Splits by patient."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from tests.helpers import sample
from train.cli import main
from train.data.dataset import DataOptions, load
from train.data.gray import eight_bit
from train.data.images import load_images
from train.data.manifest import read_manifest
from train.data.patients import group_of
from train.data.split import SHARES, check_splits, divide, read_or_make_splits, split_by_patient
from worker.errors import ConfigError


def frame_of(rows: int = 3000, seed: int = 0) -> pd.DataFrame:
    """Three sources of two classes, about three images a patient, some patients unknown."""
    random = np.random.default_rng(seed)
    patients = random.integers(0, rows // 3, rows).astype(str)
    patients[random.random(rows) < 0.2] = ""
    return pd.DataFrame(
        {
            "file": [f"{index}.png" for index in range(rows)],
            "class": random.choice(["spine", "other"], rows, p=[0.2, 0.8]),
            "dataset": random.choice(["X", "Y", "Z"], rows, p=[0.85, 0.1, 0.05]),
            "patient": patients,
            "split": "",
        }
    )


def test_every_class_and_source_is_divided_by_the_shares_and_no_patient_is() -> None:
    frame = frame_of()
    split = split_by_patient(frame, SHARES, 1)
    assert pd.Series(split).groupby(group_of(frame)).nunique().max() == 1
    for _, rows in frame.groupby(["class", "dataset"]):
        for name, share in SHARES.items():
            assert abs((split[rows.index] == name).mean() - share) < 0.06


def test_the_same_seed_gives_the_same_splits_and_another_seed_others() -> None:
    frame = frame_of(300)
    first, again, reseeded = (split_by_patient(frame, SHARES, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != reseeded).any()
    turned = frame.iloc[::-1].reset_index(drop=True)
    np.testing.assert_array_equal(first, split_by_patient(turned, SHARES, 1)[::-1])


def test_sources_of_one_image_are_divided_together() -> None:
    frame = frame_of(200).assign(patient="", dataset=[f"source {index}" for index in range(200)])
    split = split_by_patient(frame, SHARES, 0)
    assert abs((split == "test").mean() - 0.15) < 0.02


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.2, "val": -0.2}])
def test_invalid_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="their sum 1"):
        split_by_patient(frame_of(10), shares, 0)


def test_the_shared_images_divide_by_class_and_patient(shared: Path) -> None:
    frame = read_manifest(shared / "data/xray/manifest.csv", "dev")
    split = split_by_patient(frame, {"train": 0.85, "val": 0.15}, 0)
    assert pd.Series(split).groupby(group_of(frame)).nunique().max() == 1
    for name, rows in frame.groupby("class"):
        assert abs((split[rows.index] == "val").mean() - 0.15) < 0.03, name


def test_linked_images_get_the_same_split() -> None:
    frame = frame_of(300).assign(patient="")
    split = split_by_patient(frame, SHARES, 0, [(0, 7), (7, 40), (8, 9)])
    assert split[0] == split[7] == split[40]
    assert split[8] == split[9]


def test_a_later_run_reads_the_splits_of_the_first(tmp_path: Path) -> None:
    frame, path = frame_of(300), tmp_path / "out/splits.csv"
    first = read_or_make_splits(frame, path, SHARES, 1)
    turned = frame.iloc[::-1].reset_index(drop=True)
    np.testing.assert_array_equal(read_or_make_splits(turned, path, SHARES, 2)[::-1], first)
    about = json.loads((tmp_path / "out/splits.csv.json").read_text())
    assert (about["seed"], about["train"]) == (1, int((first == "train").sum()))
    with pytest.raises(ConfigError, match="made from other images"):
        read_or_make_splits(frame.iloc[1:].reset_index(drop=True), path, SHARES, 1)
    (tmp_path / "out/splits.csv.json").unlink()
    with pytest.raises(ConfigError, match="delete both"):
        read_or_make_splits(frame, path, SHARES, 1)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (["train", "val", "test"], {"train": 100, "val": 100, "test": 100}),
        (["train", "test"], {"train": 124, "val": 26, "test": 150}),
        (["dev", "test"], {"train": 124, "val": 26, "test": 150}),
        (["dev", "dev", "unused"], {"train": 165, "val": 35, "unused": 100}),
    ],
)
def test_splits_of_a_manifest_are_kept(own: list[str], expected: dict[str, int]) -> None:
    frame = frame_of(300).assign(patient="", split=own * (300 // len(own)))
    split = divide(frame, SHARES, 0)
    for name, number in expected.items():
        assert abs((split == name).sum() - number) <= 2
    kept = np.isin(frame["split"], ["test", "unused"])
    np.testing.assert_array_equal(split[kept], frame["split"][kept])


def test_a_left_out_source_is_excluded_from_training(tmp_path: Path) -> None:
    frame = frame_of(300)
    path = tmp_path / "splits.csv"
    split = read_or_make_splits(frame, path, SHARES, 0, left_out=["Y"])
    whole = read_or_make_splits(frame, tmp_path / "whole.csv", SHARES, 0)
    of_y = (frame["dataset"] == "Y").to_numpy()
    assert set(split[of_y]) == {"left-out", "test"}
    np.testing.assert_array_equal(split[~of_y | (whole == "test")], whole[~of_y | (whole == "test")])
    np.testing.assert_array_equal(read_or_make_splits(frame, path, SHARES, 0), split)
    np.testing.assert_array_equal(read_or_make_splits(frame, path, SHARES, 0, left_out=["Y"]), split)
    with pytest.raises(ConfigError, match="leave out other sources"):
        read_or_make_splits(frame, path, SHARES, 0, left_out=["X"])
    with pytest.raises(
        ConfigError, match=r"source 'W' is not in the manifest; its column dataset has \['X', 'Y', 'Z'\]"
    ):
        read_or_make_splits(frame, tmp_path / "other.csv", SHARES, 0, left_out=["W"])


def test_a_patient_or_a_picture_in_two_splits_is_refused_with_the_files(caplog: pytest.LogCaptureFixture) -> None:
    frame = frame_of(6).assign(patient=["1", "1", "", "", "", ""], dataset="X")
    split = np.array(["train", "test", "train", "val", "test", "unused"])
    with pytest.raises(
        ConfigError, match=r"2 times .*one patient: 0.png \(train\), 1.png \(test\); near-dup.*3.png \(val"
    ):
        check_splits(frame, split, [(2, 3), (2, 5)], False)
    assert check_splits(frame, split, [(2, 3)], True) == 2
    assert caplog.messages[0].endswith("near-duplicates: 2.png (train), 3.png (val)")
    assert check_splits(frame, np.array(["train"] * 6), [(2, 3)], False) == 0


def test_the_command_refuses_a_film_that_is_in_two_splits(tmp_path: Path) -> None:
    chest, leg = (eight_bit(load_images([str(sample(name))])[0]) for name in ("RG1_UNCR.dcm", "RG3_J2KI.dcm"))
    for name, image in (("a.png", chest), ("b.jpg", chest), ("c.png", leg)):
        cv2.imwrite(str(tmp_path / name), image)
    manifest = tmp_path / "m.csv"
    manifest.write_text("file,class,split\na.png,chest,train\nb.jpg,chest,test\nc.png,other,val\n")
    command = ["split", "--manifest", str(manifest), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert "near-duplicates: a.png (train), b.jpg (test)" in done.output
    done = CliRunner().invoke(main, [*command, "--allow-leaks"])
    assert done.exit_code == 0
    assert "1 test, 1 train, 1 val; 0 broken files left out" in done.output
    manifest.write_text(manifest.read_text().replace("split", "note"))
    done = CliRunner().invoke(main, [*command, "--splits", str(tmp_path / "new.csv")])
    assert done.exit_code == 0, done.output  # divided by us, what is the same film stays together
    table = pd.read_csv(tmp_path / "new.csv").set_index("file")["split"]
    assert table["a.png"] == table["b.jpg"]
    assert len(read_manifest(manifest, splits=tmp_path / "new.csv")) == 3


def test_broken_files_are_left_out_of_what_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))
    (tmp_path / "b.png").write_text("no image")
    (tmp_path / "m.csv").write_text("path,label\na.png,Spine\nb.png,spine\n")
    loaded = load(tmp_path / "m.csv", tmp_path / "out", DataOptions())
    assert (list(loaded.frame["file"]), len(loaded.images), loaded.broken) == (["a.png"], 1, 1)
    assert any("b.png" in line for line in caplog.messages)
