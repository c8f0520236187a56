"""Fit, export and evaluate, from a manifest to a model file that the worker runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.helpers import sample
from tests.train.stripes import write_manifest
from train.cli import main
from train.data.images import load_images
from train.fit.augment import augment
from train.fit.probe import Examples, balanced_weights, fit_linear
from train.fit.recipe import read_recipe
from train.networks.backbones import make_backbone
from worker.errors import ConfigError
from worker.inference.classifier import Classifier

RECIPE = """
method = "probe"
backbones = ["mobilenetv2", "mobilenetv1"]
size = 64
views = 1
augmented_share = 0.3
decay = [0.001, 0.1]
source_power = 0.5
accuracy = 0.9
seed = 1
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources with 50 pictures of each class, and a few to test."""
    sources = {"here": ("dev", 50), "there": ("dev", 50), "elsewhere": ("test", 8)}
    return write_manifest(tmp_path_factory.mktemp("stripes"), sources)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_fit_export_and_evaluate_make_a_model_that_the_worker_runs(
    manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    # Stripes of one class are near-duplicates.
    fit = ("fit", "--manifest", manifest, "--recipe", tmp_path / "tiny.toml", "--weights", "none", "--allow-leaks")
    assert str(tmp_path / "checkpoint.pt") in run(*fit, "--out", tmp_path)
    assert "stands in two splits: near-duplicates" in caplog.text
    assert "npy, from an earlier run" not in caplog.text
    run(*fit, "--out", tmp_path)
    assert "npy, from an earlier run" in caplog.text
    validation = json.loads((tmp_path / "validation.json").read_text())
    assert set(validation["decays"]) == {"0.001", "0.1"}
    model = tmp_path / "model.onnx"
    run(
        "export",
        "--checkpoint",
        tmp_path / "checkpoint.pt",
        "--manifest",
        manifest,
        "--out",
        model,
        "--variant",
        "none",
    )
    run("evaluate", "--model", model, "--manifest", manifest, "--out", tmp_path / "eval", "--record")
    figures = json.loads((tmp_path / "eval/metrics.json").read_text())
    assert figures["n"] == 40
    assert figures["macro_f1"]["value"] > 0.5  # chance is 0.2
    assert set(figures["levels"]) == {"five", "four", "leaves"}
    assert {"macro_f1", "answered", "ece"} <= set(figures["levels"]["four"])
    assert set(figures["levels"]["four"]["answered"]) == {"coverage", "accuracy", "per_class"}
    assert "header_age" in figures
    card = Classifier(model, "cpu").card
    assert figures["model"]["name"] == card.name == "tiny"
    assert card.metrics["macro_f1"] == figures["macro_f1"]
    assert card.metrics["levels"] == figures["levels"]
    assert card.training_data["images"] == 500
    run("card", "--model", model, "--metrics", tmp_path / "eval/metrics.json", "--out", tmp_path / "CARD.md")
    text = (tmp_path / "CARD.md").read_text()
    assert (tmp_path / "eval/metrics.md").read_text() in text
    assert "| four classes (chests merged) | " in text
    assert "mobilenetv2, mobilenetv1" in text


def test_augmentation_depends_on_its_seed_only() -> None:
    [image] = load_images([str(sample("RG3_J2KI.dcm"))])
    before = image.copy()
    for seed in range(30):
        first, second = (augment(image, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.dtype == np.uint8
        assert first.ndim == 2
    assert before.dtype != np.uint8  # a DICOM is held as the worker decodes it
    np.testing.assert_array_equal(image, before)


def examples(labels: np.ndarray, admitted: dict[int, list[int]], random: np.random.Generator) -> Examples:
    """Three clouds of points whose labels admit some of the five classes."""
    allowed = np.zeros((len(labels), 5), np.float32)
    for label, classes in admitted.items():
        for index in classes:
            allowed[labels == label, index] = 1
    features = np.eye(4)[labels] + random.normal(0, 0.2, (len(labels), 4))
    return Examples(features, allowed, np.ones(len(labels)))


def probability(layer: np.ndarray, bias: np.ndarray, point: int) -> np.ndarray:
    logits = layer[:, point] + bias
    return np.exp(logits) / np.exp(logits).sum()


def test_partial_labels_train_chest_against_other_classes_but_not_adult_against_child() -> None:
    random = np.random.default_rng(0)
    plain = examples(random.integers(0, 3, 900), {0: [3], 1: [4], 2: [1, 2]}, random)
    nothing = Examples(plain.features[:0], plain.allowed[:0], np.ones(0))
    layer, bias = fit_linear(plain, nothing, [1, 2], 0.0, 1e-3)
    assert [int(probability(layer, bias, row).argmax()) for row in (0, 1)] == [3, 4]
    chest = probability(layer, bias, 2)
    assert chest[1:3].sum() > 0.9
    assert chest[1] == pytest.approx(chest[2], abs=0.01)


def test_augmented_views_train_adult_against_child_only() -> None:
    random = np.random.default_rng(0)
    plain = examples(random.integers(0, 3, 900), {0: [3], 1: [4], 2: [1, 2]}, random)
    # Augmented chests: near point 2 those of adults, near point 3 (only in augmented rows) those of children.
    augmented = examples(random.integers(2, 4, 400), {2: [1], 3: [2]}, random)
    layer, bias = fit_linear(plain, augmented, [1, 2], 0.5, 1e-3)
    assert probability(layer, bias, 2)[1] > 0.8
    child = probability(layer, bias, 3)
    assert child[2] / child[1] > 5
    assert [int(probability(layer, bias, row).argmax()) for row in (0, 1)] == [3, 4]


def test_weights_give_every_class_the_same_total_and_reduce_large_sources() -> None:
    labels = np.array(["a"] * 100 + ["b"] * 10)
    sources = np.array(["x"] * 81 + ["y"] * 19 + ["x"] * 10)
    weights = balanced_weights(labels, sources)
    assert weights[labels == "a"].sum() == pytest.approx(weights[labels == "b"].sum())
    assert weights[:81].sum() / weights[81:100].sum() == pytest.approx((81 / 19) ** 0.5)


def test_wrong_names_and_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"known are .*mobilenetv1_probe, .*mobilenetv2_probe, .*two_step"):
        read_recipe("resnet9000")
    with pytest.raises(ConfigError, match="no pretrained weights there"):
        make_backbone("mobilenetv2", tmp_path)
    with pytest.raises(ConfigError, match="backbone 'vgg' is unknown"):
        make_backbone("vgg", None)


def test_gray_input_gives_the_features_of_three_equal_channels(shared: Path) -> None:
    import timm
    import torch
    from safetensors.torch import load_file

    gray = make_backbone("mobilenetv1", shared / "weights").eval()
    colour = timm.create_model("mobilenetv1_100", num_classes=0, pad_type="same").eval()
    state = load_file(shared / "weights/mobilenetv1_100.safetensors")
    colour.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
    image = torch.rand(1, 1, 96, 96) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(gray(image), colour(image.repeat(1, 3, 1, 1)), atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_the_model_cards_figures_are_those_of_the_packaged_model(shared: Path, tmp_path: Path) -> None:
    from worker.inference.classifier import PACKAGED_MODEL

    manifest = shared / "data/xray/manifest.csv"
    run("evaluate", "--model", PACKAGED_MODEL, "--manifest", manifest, "--out", tmp_path)
    card = (PACKAGED_MODEL.parent / "MODEL_CARD.md").read_text()
    for line in (tmp_path / "metrics.md").read_text().splitlines():
        assert line in card
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert figures["macro_f1"]["value"] >= 0.90
    assert figures["macro_f1_merged_chests"]["value"] >= 0.95
    # 0.946 on the 1,255 images of before, 0.896 since children of 11 to 15 years of another hospital were added.
    assert figures["adult_pediatric_balanced_accuracy"]["value"] >= 0.88
