"""Splits by patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from train.manifest import group_of, read_manifest
from train.split import SHARES, split_by_patient
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
        }
    )


def test_every_class_and_source_is_shared_out_and_no_patient_is_divided() -> None:
    frame = frame_of()
    split = split_by_patient(frame, SHARES, 1)
    assert pd.Series(split).groupby(group_of(frame)).nunique().max() == 1
    for _, rows in frame.groupby(["class", "dataset"]):
        for name, share in SHARES.items():
            assert abs((split[rows.index] == name).mean() - share) < 0.06


def test_the_same_seed_divides_alike_and_another_otherwise() -> None:
    frame = frame_of(300)
    one, again, other = (split_by_patient(frame, SHARES, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    turned = frame.iloc[::-1].reset_index(drop=True)
    np.testing.assert_array_equal(one, split_by_patient(turned, SHARES, 1)[::-1])


def test_sources_of_one_image_are_shared_out_together() -> None:
    frame = frame_of(200).assign(patient="", dataset=[f"source {index}" for index in range(200)])
    split = split_by_patient(frame, SHARES, 0)
    assert abs((split == "test").mean() - 0.15) < 0.02


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.2, "val": -0.2}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="all together 1"):
        split_by_patient(frame_of(10), shares, 0)


def test_the_shared_images_divide_by_class_and_patient(shared: Path) -> None:
    frame = read_manifest(shared / "data/xray/manifest.csv", "dev")
    split = split_by_patient(frame, {"train": 0.85, "val": 0.15}, 0)
    assert pd.Series(split).groupby(group_of(frame)).nunique().max() == 1
    for name, rows in frame.groupby("class"):
        assert abs((split[rows.index] == "val").mean() - 0.15) < 0.03, name
