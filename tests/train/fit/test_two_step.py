"""The method two_step: first the body part, then adult or child."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from sklearn.metrics import f1_score

from tests.train.stripes import write_manifest
from train.cli import main
from train.data.classes import PAPER, ClassSet
from train.export.onnx_file import simplify
from train.fit.fit_two_step import chest_rule
from train.fit.recipe import TwoStepRecipe, classes_named, read_recipe
from train.fit.validate import Dataset, chest_folds
from train.networks.two_step import ChestRule, TwoStep, pair_of, split_pair, untrained
from worker.errors import ConfigError
from worker.inference.classifier import Classifier, softmax

PAIR = ADULT, CHILD = pair_of(PAPER)

RECIPE = """
method = "two_step"
size = 64
accuracy = 0.9
seed = 1

[body_part]
backbones = ["mobilenetv2"]
pooling = "catavgmax"
views = 0
augmented_share = 0.0
decay = [0.001]
source_power = 0.5

[chest]
architecture = "mobilenetv1"
start = "pretrained"
epochs = 1
batch = 32
optimiser = "adamw"
rate = 1e-3
balanced = true
keep = "last"
"""


def run(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_splitting_chests_does_not_change_other_classes() -> None:
    random = np.random.default_rng(0)
    logits, log_odds = random.normal(size=(20, 5)), random.normal(size=20) * 3
    before, after = softmax(logits), softmax(np.stack(split_pair(logits, log_odds, PAIR, np.logaddexp), 1))
    chests = [ADULT, CHILD]
    np.testing.assert_allclose(after[:, chests].sum(1), before[:, chests].sum(1))
    np.testing.assert_allclose(np.delete(after, chests, 1), np.delete(before, chests, 1))
    np.testing.assert_allclose(np.log(after[:, CHILD] / after[:, ADULT]), log_odds)


def test_the_network_and_its_validation_compute_the_same_logits() -> None:
    recipe = read_recipe("two_step")
    assert isinstance(recipe, TwoStepRecipe)
    parts = untrained({"body_part": {"backbones": ["mobilenetv2"], "pooling": "avg"}, "chest": vars(recipe.chest)})
    rule = ChestRule(2.0, 0.7, -0.5)
    model = TwoStep(parts.body_part, parts.chest, rule, PAIR).eval()
    image = torch.rand(3, 1, 64, 64)
    with torch.inference_mode():
        body_part, outputs = model.body_part(image).double().numpy(), model.chest(image).double().numpy()
        found = model(image).numpy()
    log_odds = rule.log_odds(outputs[:, CHILD] - outputs[:, ADULT], body_part, PAIR)
    np.testing.assert_allclose(found, np.stack(split_pair(body_part, log_odds, PAIR, np.logaddexp), 1), atol=1e-5)


def test_the_rule_gives_more_weight_to_the_better_margin_and_maximises_f1() -> None:
    random = np.random.default_rng(0)
    child = random.random(4000) < 0.1
    tells = np.where(child, 2.0, -2.0) + random.normal(size=4000)
    tells_nothing = random.normal(size=4000)
    rule = chest_rule(tells, tells_nothing, child)
    assert rule.scale == pytest.approx(4, rel=0.2)
    assert abs(rule.weight) < 0.3

    def f1(shift: float) -> float:
        return float(
            f1_score(
                child,
                ChestRule(rule.scale, rule.weight, shift).log_odds(tells, _as_logits(tells_nothing), PAIR) > 0,
                average="macro",
            )
        )

    assert f1(rule.shift) >= max(f1(rule.shift + step) for step in (-1.0, -0.3, 0.3, 1.0))


def _as_logits(difference: np.ndarray) -> np.ndarray:
    logits = np.zeros((len(difference), 5))
    logits[:, CHILD] = difference
    return logits


def test_every_chest_is_left_out_once_and_no_patient_is_in_two_folds() -> None:
    rows = [("mixed", "adult_chest", f"a{i // 2}") for i in range(200)]
    rows += [("mixed", "pediatric_chest", f"c{i // 2}") for i in range(80)]
    rows += [("hospital", "pediatric_chest", "") for _ in range(300)]
    rows += [("small", "adult_chest", "") for _ in range(30)]
    rows += [("mixed", "spine", f"a{i}") for i in range(50)]
    frame = pd.DataFrame(rows, columns=["dataset", "class", "patient"])
    frame["file"] = [str(i) for i in range(len(frame))]
    folds = chest_folds(Dataset(frame, np.zeros((1, len(frame), 1)), PAPER, 0.5, 0.0))
    turned = frame.sample(len(frame), random_state=1).reset_index(drop=True)
    again = chest_folds(Dataset(turned, np.zeros((1, len(frame), 1)), PAPER, 0.5, 0.0))
    assert [set(frame["file"][fold]) for fold in folds] == [set(turned["file"][fold]) for fold in again]
    children = [
        int((fold & (frame["dataset"] == "mixed") & (frame["class"] == "pediatric_chest")).sum()) for fold in folds
    ]
    assert max(children[:3]) - min(children[:3]) <= 2  # a patient has two images
    chests = frame["class"].isin(("adult_chest", "pediatric_chest")).to_numpy()
    np.testing.assert_array_equal(np.sum(folds, axis=0), chests)
    for patient in ("a0", "a50", "c3"):
        assert sum(bool((fold & (frame["patient"] == patient)).any()) for fold in folds) == 1
    assert sum(bool((fold & (frame["dataset"] == "small")).any()) for fold in folds) == 1
    # A source with most of the children is a fold of its own, so that the other folds keep them for training.
    [alone] = [fold for fold in folds if (fold & (frame["dataset"] == "hospital")).any()]
    assert set(frame["dataset"][alone]) == {"hospital"}


def test_settings_of_a_part_can_be_overridden_and_wrong_ones_are_named() -> None:
    recipe = read_recipe("two_step", ["size=64", "chest.epochs=2"])
    assert isinstance(recipe, TwoStepRecipe)
    assert (recipe.size, recipe.body_part.size, recipe.chest.size, recipe.chest.epochs) == (64, 64, 64, 2)
    with pytest.raises(ConfigError, match=r"chest.*colour"):
        read_recipe("two_step", ["chest.colour=3"])


@pytest.mark.slow
def test_a_model_in_two_steps_is_fitted_exported_and_run_by_the_worker(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    manifest = write_manifest(tmp_path / "images", {"here": ("dev", 50), "there": ("dev", 50)})
    (tmp_path / "tiny.toml").write_text(RECIPE)
    fit = ("fit", "--manifest", manifest, "--recipe", tmp_path / "tiny.toml", "--weights", "none", "--out", tmp_path)
    run(*fit)
    validation = json.loads((tmp_path / "validation.json").read_text())
    assert validation["chosen_decay"] == 0.001
    networks = {path: path.stat().st_mtime_ns for path in tmp_path.glob("chest-*/network-*.pt")}
    assert len(networks) == 4  # three folds, and all
    run(*fit)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("chest-*/network-*.pt")} == networks
    model = tmp_path / "model.onnx"
    run(
        *("export", "--checkpoint", tmp_path / "checkpoint.pt", "--manifest", manifest),
        *("--variant", "none", "--out", model),
    )
    card = Classifier(model, "cpu").card
    assert tuple(part.name for part in card.classes) == PAPER.names
    assert card.training_data["method"] == "two_step"


def test_classes_without_a_pair_are_refused_and_a_recipe_can_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a partial label of two classes, and the classes hand, knee have none"):
        pair_of(ClassSet(("hand", "knee")))
    limbs = 'classes = ["left_knee", "hand", "right_knee"]\npartial_labels = {knee = ["left_knee", "right_knee"]}\n'
    (tmp_path / "limbs.toml").write_text(limbs + RECIPE + "[class.hand]\ntitle = 'Hand and wrist'\n")
    recipe = read_recipe(str(tmp_path / "limbs.toml"))
    classes = classes_named(recipe)
    assert classes is not None
    assert pair_of(classes) == (0, 2)
    assert recipe.terms["hand"].title == "Hand and wrist"
    parts = {"body_part": {"backbones": ["mobilenetv2"], "pooling": "avg"}, "chest": vars(recipe.chest)}
    with torch.inference_mode():
        assert untrained(parts, classes).eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 3)
    for wrong, message in (
        ("[class.foot]\ntitle = 'Foot'\n", r"\[class.foot\]: not one of the classes left_knee, hand, right_knee"),
        ("[class.hand]\nbody_part_examined = 'hand'\n", r"class.hand.body_part_examined: String should match"),
    ):
        (tmp_path / "wrong.toml").write_text(limbs + RECIPE + wrong)
        with pytest.raises(ConfigError, match=message):
            read_recipe(str(tmp_path / "wrong.toml"))


def test_a_single_source_is_refused_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    manifest = write_manifest(tmp_path / "images", {"here": ("dev", 20)})
    (tmp_path / "tiny.toml").write_text(RECIPE)
    arguments = ["fit", "--manifest", manifest, "--recipe", tmp_path / "tiny.toml", "--weights", "none"]
    done = CliRunner().invoke(main, [str(argument) for argument in [*arguments, "--out", tmp_path]])
    assert done.exit_code == 2
    assert "two sources or more" in done.output
    assert not list(tmp_path.glob("chest-*"))


def test_layers_that_both_networks_share_are_computed_once_and_the_outputs_stay_the_same() -> None:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    kernel = np.random.default_rng(0).normal(size=(4, 1, 3, 3)).astype(np.float32)
    weights = [onnx.numpy_helper.from_array(kernel, name) for name in ("one", "other")]
    nodes = [helper.make_node("Conv", ["image", name], [f"{name}_map"]) for name in ("one", "other")]
    nodes += [helper.make_node("Relu", [f"{name}_map"], [f"{name}_relu"]) for name in ("one", "other")]
    nodes.append(helper.make_node("Add", ["one_relu", "other_relu"], ["sum"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("image", "sum")]
    model = helper.make_model(
        helper.make_graph(nodes, "twice", ends[:1], ends[1:], weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    image = np.random.default_rng(1).normal(size=(1, 1, 8, 8)).astype(np.float32)

    def outputs() -> np.ndarray:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"image": image})[0])

    before = outputs()
    model = simplify(model)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Relu", "Add"]
    assert len(model.graph.initializer) == 1
    np.testing.assert_array_equal(outputs(), before)
