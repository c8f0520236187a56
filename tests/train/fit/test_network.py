"""Training of whole networks by recipe, and resuming an interrupted training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from tests.helpers import eventually
from tests.train.stripes import write_manifest
from train.cli import main
from train.data.classes import PAPER
from train.data.dataset import DataOptions
from train.data.images import load_images
from train.data.manifest import read_manifest
from train.fit.batches import PLAIN, Order, Views
from train.fit.fit import fit
from train.fit.losses import label_loss
from train.fit.machine import find_machine
from train.fit.network import fit_network
from train.fit.recipe import NetworkRecipe, read_recipe
from train.measure.card import write_card
from train.networks.backbones import make_network
from train.networks.checkpoint import load
from worker.errors import ConfigError
from worker.inference.classifier import Classifier

PAPERS = ("mobilenetv1", "mobilenetv2", "resnet18", "resnet34", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2")
TINY = ("size=32", "batch=16", "epochs=3")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = {"here": ("dev", 8), "there": ("dev", 8), "elsewhere": ("test", 2)}
    return write_manifest(tmp_path_factory.mktemp("stripes"), sources)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> DataOptions:
    """A cache shared by the tests; leaks are allowed, since stripes of a class are near-duplicates."""
    return DataOptions(cache=tmp_path_factory.mktemp("cache"), allow_leaks=True)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A fixed number of threads, so that sums have the same order in every process of a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def recipe(*overrides: str, name: str = "mobilenetv1") -> NetworkRecipe:
    found = read_recipe(name, (*TINY, *overrides))
    assert isinstance(found, NetworkRecipe)
    return found


@pytest.mark.parametrize("name", PAPERS)
def test_the_recipes_of_the_paper_have_its_settings_and_a_network_that_runs(name: str) -> None:
    found = read_recipe(name)
    assert isinstance(found, NetworkRecipe)
    assert (found.size, found.epochs, found.batch, found.seed, found.start) == (512, 50, 32, 42, "scratch")
    assert (found.optimiser, found.schedule, found.rate, found.weight_decay) == ("adam", "one_cycle", 0.01, 1e-4)
    assert (found.clip, found.label_smoothing, found.ema, found.balanced) == (0.1, 0, 0, False)
    assert (found.augmentation, found.preparation, found.mean, found.std) == ("paper", "stretch-squash-1", 0, 1)
    network = make_network(found.architecture, 5).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 5)


def test_a_resnets_blocks_use_their_convolutions() -> None:
    """In the paper's code a block returns only its shortcut."""
    network = make_network("resnet18", 5).eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        before = network(image)
        network.layer2[1].conv1.weight.mul_(2)
        network.layer2[1].bn2.weight.add_(1)
        assert not torch.allclose(network(image), before)


@pytest.mark.slow
def test_an_interrupted_training_is_resumed_with_the_results_of_an_uninterrupted_one(
    manifest: Path, tmp_path: Path, options: DataOptions, caplog: pytest.LogCaptureFixture
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    # With dropout and a moving average, so that all parts of the state are saved.
    settings = ("dropout=0.3", "ema=0.9")
    overrides = [word for setting in (*TINY, *settings) for word in ("--set", setting)]
    arguments = [
        "fit",
        "--manifest",
        manifest,
        "--recipe",
        "mobilenetv1",
        "--allow-leaks",
        "--cache",
        options.cache,
        *overrides,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *map(str, arguments), "--out", str(killed), "--save-every", "0"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        # The second saved state after the first epoch is in the middle of the second epoch.
        eventually((killed / "log.jsonl").is_file, 120, "the end of the first epoch")
        for _ in range(2):
            before = (killed / "state.pt").stat().st_mtime_ns
            eventually(lambda seen=before: (killed / "state.pt").stat().st_mtime_ns != seen)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    course = torch.load(killed / "state.pt", weights_only=True)["course"]
    assert 1 <= course["epoch"] < 3
    assert course["step"] > 0
    assert not (killed / "checkpoint.pt").exists()

    assert command(*arguments, "--out", killed).stdout.split() == [str(killed / "checkpoint.pt")]
    assert f"resuming in epoch {course['epoch'] + 1}" in caplog.text
    fit(recipe(*settings), manifest, None, whole, options)
    resumed, expected = load(killed / "checkpoint.pt"), load(whole / "checkpoint.pt")
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    assert resumed.calibration == expected.calibration

    def epochs(folder: Path) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in lines]

    assert epochs(killed) == epochs(whole)
    assert [row["epoch"] for row in epochs(whole)] == [1, 2, 3]
    assert (killed / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(killed.glob("best-*.pt"))
    assert command(*arguments, "--out", killed).exit_code == 0
    assert "finished by an earlier run" in caplog.text
    refused = command(*arguments, "--set", "rate=0.1", "--out", killed)
    assert refused.exit_code == 2
    assert "another recipe, other settings or other images" in refused.output


@pytest.mark.slow
def test_an_exported_network_prepares_images_as_in_training(
    manifest: Path, tmp_path: Path, options: DataOptions
) -> None:
    settings = recipe("epochs=1", name="resnet18")  # exported in a third of the time
    checkpoint = fit(settings, manifest, None, tmp_path, options)
    model = tmp_path / "model.onnx"
    assert command("export", "--checkpoint", checkpoint, "--manifest", manifest, "--out", model).exit_code == 0
    classifier = Classifier(model, "cpu")
    assert (classifier.card.preparation, classifier.card.mean, classifier.card.std) == ("stretch-squash-1", 0, 1)
    assert classifier.card.training_data["images"] + classifier.card.training_data["validation_images"] == 80
    images = load_images(list(read_manifest(manifest, "dev")["path"][:1]))
    images = [images[0][:60]]  # not a square
    trained, _ = Views(images, settings)[PLAIN, 0]
    np.testing.assert_array_equal(trained.numpy(), classifier.prepare(images[0]))
    judged = tmp_path / "judged"
    assert (
        command("evaluate", "--model", model, "--manifest", manifest, "--split", "dev", "--out", judged).exit_code == 0
    )
    write_card(model, json.loads((judged / "metrics.json").read_text()), tmp_path / "CARD.md", "## Limits\n\nMany.\n")
    text = (tmp_path / "CARD.md").read_text()
    for said in ("A whole network (resnet18)", "validation images of the training sources", "Many."):
        assert said in text
    assert load(checkpoint).calibration["from"] == "validation images of the training sources"


@pytest.mark.slow
def test_every_other_setting_can_be_trained(manifest: Path, tmp_path: Path, options: DataOptions) -> None:
    frame = read_manifest(manifest)
    frame.loc[frame["class"].str.contains("chest") & frame.index.isin(range(0, 999, 3)), "class"] = "chest"
    columns = ["file", "class", "split", "dataset", "patient"]
    frame.to_csv(manifest.with_name("partial.csv"), columns=columns, index=False)
    teacher = frame[["file"]].assign(**{name: np.where(frame["class"] == name, 0.8, 0.05) for name in PAPER.names})
    teacher.to_csv(tmp_path / "teacher.csv", index=False)
    settings = recipe(
        "epochs=2",
        "augmentation=strong",
        "preparation=fit-stretch-pad-1",
        "optimiser=adamw",
        "schedule=cosine",
        "warmup=1",
        "rate=0.003",
        "layer_decay=0.8",
        "frozen=['conv_stem', 'bn1', 'blocks.0']",
        "balanced=true",
        "partial=true",
        "label_smoothing=0.1",
        f"teacher={tmp_path / 'teacher.csv'}",
        "keep=last",
        "clip=0",
    )
    checkpoint = fit_network(settings, manifest.with_name("partial.csv"), None, tmp_path / "out", options)
    saved = load(checkpoint)
    assert saved.training_data["by_class"]["chest"] > 0
    torch.manual_seed(settings.seed)
    first = make_network("mobilenetv1", 5, pretrained_padding=False).state_dict()
    last = saved.model.state_dict()
    for name, tensor in first.items():
        if name.startswith(("conv_stem", "bn1", "blocks.0.")):
            assert torch.equal(last[name], tensor), name
    assert not torch.equal(last["classifier.weight"], first["classifier.weight"])
    with pytest.raises(ConfigError, match=r"no module 'blocks\.99'"):
        fit_network(recipe("frozen=['blocks.99']"), manifest, None, tmp_path / "no", options)


def test_the_loss_is_cross_entropy_and_sums_the_classes_that_a_partial_label_admits() -> None:
    logits, truth = torch.randn(8, 5), torch.arange(8) % 5
    allowed = torch.nn.functional.one_hot(truth, 5).float()
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(logits, truth, label_smoothing=smoothing)
        torch.testing.assert_close(label_loss(logits, allowed, smoothing), expected)
    chest = torch.tensor([[0.0, 1, 1, 0, 0]])
    expected = -torch.softmax(logits[:1], 1)[:, 1:3].sum().log()
    torch.testing.assert_close(label_loss(logits[:1], chest, 0.1), expected)


def test_an_epochs_order_depends_on_seed_and_epoch_and_is_shared_by_processes() -> None:
    order = Order(70, 16, seed=3)
    order.epoch = 5
    batches = list(order)
    assert [len(batch) for batch in batches] == [16, 16, 16, 16, 6]
    assert sorted(index for batch in batches for _, index in batch) == list(range(70))
    order.start = 2
    assert list(order) == batches[2:]
    halves = [Order(70, 16, seed=3, rank=rank, world=2) for rank in (0, 1)]
    for half in halves:
        half.epoch = 5
    for whole, first, second in zip(batches, *halves):
        assert sorted(whole) == sorted(first + second)


def test_balanced_batches_contain_rare_images_more_often() -> None:
    weights = np.array([1.0] * 90 + [9.0] * 10)
    drawn = [index for batch in Order(100, 10, 0, weights) for _, index in batch]
    assert 30 < sum(index >= 90 for index in drawn) < 70


def test_pretrained_weights_must_be_given_and_are_not_downloaded(
    manifest: Path, tmp_path: Path, options: DataOptions
) -> None:
    arguments = (
        "fit",
        "--manifest",
        manifest,
        "--allow-leaks",
        "--cache",
        options.cache,
        "--recipe",
        "mobilenetv1",
        "--set",
        "start=pretrained",
    )
    asked = command(*arguments, "--out", tmp_path)
    assert (asked.exit_code, "nothing is downloaded" in asked.output) == (2, True)
    missing = command(*arguments, "--out", tmp_path, "--weights", tmp_path)
    assert (missing.exit_code, "no pretrained weights there" in missing.output) == (2, True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=0", "epochs: Input should be greater than or equal to 1"),
        ("epoch=3", "epoch: Unexpected keyword argument"),
        ("augmentation=wild", "augmentation: Input should be 'paper', 'strong' or 'none'"),
        ("architecture=vgg", "architecture 'vgg' is unknown; known are mobilenetv1"),
        ("preparation=squash-9", "preparation 'squash-9' is unknown; known are fit-stretch-pad-1"),
        ("method=magic", "does not match any of the expected tags: 'probe', 'network'"),
        ("epochs", "write it as a setting and its value"),
    ],
)
def test_a_wrong_setting_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_recipe("mobilenetv1", [override])


def test_several_processes_without_accelerate_are_refused_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ConfigError, match=r"install dicom-imaging-router\[multi-gpu\]"):
        find_machine()
