"""Figures at each level of a tree, on made-up probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from train.data.classes import PAPER
from train.measure.levels import levels_of, measure_header_age, measure_levels
from train.measure.tables import level_lines
from worker.inference.card import ModelCard
from worker.inference.classifier import Classifier
from worker.inference.tree import Node, Tree


def leaf(name: str, threshold: float = 0.8, ages: tuple[float, float] | None = None) -> Node:
    return Node(name, name, "", "", threshold, frozenset(), ages=ages)


CHESTS = (leaf("adult_chest", ages=(18, 200)), leaf("pediatric_chest", ages=(0, 16)))
CHEST = Node("chest", "chest", "", "", 0.8, frozenset(), complete=False, children=CHESTS)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    """The paper's five classes below the node chest, every threshold 0.8."""
    roots = [leaf("abdominal"), CHEST, leaf("spine"), leaf("other")]
    return replace(Classifier(device="cpu").card, tree=Tree(roots, PAPER.names))


@pytest.fixture(scope="module")
def flat(card: ModelCard) -> ModelCard:
    roots = [leaf("abdominal"), *CHESTS, leaf("spine"), leaf("other")]
    return replace(card, tree=Tree(roots, PAPER.names))


SURE_ADULT, UNSURE_CHEST, SURE_SPINE, UNSURE = (
    [0.0, 0.9, 0.1, 0.0, 0.0],
    [0.0, 0.6, 0.4, 0.0, 0.0],
    [0.0, 0.0, 0.0, 1.0, 0.0],
    [0.1, 0.2, 0.1, 0.3, 0.3],
)
ROWS = np.array([SURE_ADULT, UNSURE_CHEST, UNSURE_CHEST, SURE_SPINE, UNSURE])
TRUTH = ["adult_chest", "adult_chest", "pediatric_chest", "spine", "other"]
GROUPS, NONE_STRANGE = np.arange(5), np.zeros(5, bool)


def test_an_unsure_chest_is_an_answer_among_the_four_and_none_among_the_five(card: ModelCard) -> None:
    levels = measure_levels(ROWS, TRUTH, GROUPS, NONE_STRANGE, card)
    answered = {name: level["answered"] for name, level in levels.items()}
    assert {name: found["coverage"] for name, found in answered.items()} == {"five": 0.4, "four": 0.8, "leaves": 0.4}
    assert all(found["accuracy"] == 1 for found in answered.values())
    assert answered["four"]["per_class"]["chest"] == {"n": 3, "coverage": 1.0, "accuracy": 1.0}
    assert answered["five"]["per_class"]["pediatric_chest"] == {"n": 1, "coverage": 0.0, "accuracy": None}
    assert levels["four"]["classes"] == ["abdominal", "chest", "spine", "other"]
    assert levels["five"]["classes"] == list(PAPER.names)
    low, high = (levels["four"]["intervals"]["coverage"][end] for end in ("low", "high"))
    assert low < 0.8 < high


def test_merged_chests_are_right_whatever_their_age(card: ModelCard) -> None:
    levels = measure_levels(ROWS[:4], TRUTH[:4], GROUPS[:4], NONE_STRANGE[:4], card)
    assert levels["four"]["macro_f1"]["value"] == 1
    assert levels["five"]["macro_f1"]["value"] == pytest.approx((0.8 + 0 + 1) / 3, abs=1e-4)
    # A chest's probability is 1 at level four, and 0.6 or 0.9 at level five.
    assert levels["four"]["ece"] == 0
    assert levels["five"]["ece"] == pytest.approx((0.1 + abs(1.2 - 1)) / 4, abs=1e-4)


def test_a_flat_file_merges_chests_but_is_not_sure_of_their_sum(flat: ModelCard) -> None:
    levels = measure_levels(ROWS, TRUTH, GROUPS, NONE_STRANGE, flat)
    assert levels["four"]["classes"] == ["abdominal", "chest", "spine", "other"]
    assert levels["four"]["answered"]["coverage"] == levels["five"]["answered"]["coverage"] == 0.4
    assert measure_header_age(ROWS, TRUTH, np.full(5, 40.0), GROUPS, NONE_STRANGE, flat) is None
    two = Tree([leaf("adult_chest"), leaf("hand")], ["adult_chest", "hand"])
    assert levels_of(two)["four"].classes == levels_of(two)["five"].classes == ("adult_chest", "hand")


def test_leaves_below_a_complete_node_count_as_that_node_among_the_five(card: ModelCard) -> None:
    limb = Node("upper_limb", "", "", "", 0.8, frozenset(), children=(leaf("hand"), leaf("wrist")))
    other = Node("other", "", "", "", 0.8, frozenset(), children=(limb, leaf("knee")))
    outputs = ["abdominal", "adult_chest", "pediatric_chest", "spine", "hand", "wrist", "knee"]
    deep = replace(card, tree=Tree([leaf("abdominal"), CHEST, leaf("spine"), other], outputs))
    rows = np.array([[0, 0, 0, 0, 0.5, 0.4, 0.1], [0, 0.6, 0.4, 0, 0, 0, 0]])
    levels = measure_levels(rows, ["knee", "chest"], np.arange(2), np.zeros(2, bool), deep)
    assert levels["five"]["classes"] == list(PAPER.names)
    # A hand or a wrist is among the other parts: a right answer there, and none among the leaves.
    assert levels["five"]["answered"]["per_class"]["other"] == {"n": 1, "coverage": 1.0, "accuracy": 1.0}
    assert levels["leaves"]["answered"]["coverage"] == 0
    # A chest of unknown age is left out below level four.
    assert [levels[name]["n"] for name in ("five", "four", "leaves")] == [1, 2, 1]


def test_what_does_not_look_like_an_x_ray_is_not_answered(card: ModelCard) -> None:
    levels = measure_levels(ROWS, TRUTH, GROUPS, np.ones(5, bool), card)
    assert levels["four"]["answered"]["coverage"] == 0
    assert levels["four"]["answered"]["accuracy"] is None


def test_a_known_age_answers_the_unsure_chests_and_a_wrong_one_makes_them_wrong(card: ModelCard) -> None:
    ages = np.array([50, 30, np.nan, np.nan, np.nan])
    found = measure_header_age(ROWS, TRUTH, ages, GROUPS, NONE_STRANGE, card)
    assert found is not None
    assert (found["known"]["coverage"], found["known"]["accuracy"]) == (0.8, 1.0)
    assert (found["from_class"], found["drawn"]) == (1, 2)
    # Without an age one of three chests is answered; with one of the other group all are, wrongly.
    answered = 0.93 * 4 + 0.05 * 2 + 0.02 * 4
    assert found["imperfect"]["coverage"] == pytest.approx(answered / 5, abs=1e-4)
    right = 0.93 * 4 + 0.05 * 2 + 0.02 * 1
    assert found["imperfect"]["accuracy"] == pytest.approx(right / answered, abs=1e-4)


def test_an_age_makes_a_wrong_answer_of_a_limb_that_looks_like_a_chest(card: ModelCard) -> None:
    truth = [*TRUTH[:1], "other", *TRUTH[2:]]
    found = measure_header_age(ROWS, truth, np.full(5, np.nan), GROUPS, NONE_STRANGE, card)
    assert found is not None
    assert found["known"]["accuracy"] == 0.75
    again = measure_header_age(ROWS, truth, np.full(5, np.nan), GROUPS, NONE_STRANGE, card)
    assert found == again


def test_the_tables_show_each_set_of_classes_once(card: ModelCard, flat: ModelCard) -> None:
    for model in (card, flat):
        figures = {
            "levels": measure_levels(ROWS, TRUTH, GROUPS, NONE_STRANGE, model),
            "header_age": measure_header_age(ROWS, TRUTH, np.full(5, np.nan), GROUPS, NONE_STRANGE, model),
        }
        text = "\n".join(level_lines(figures))
        assert "| five classes | " in text
        assert "| four classes (chests merged) | " in text
        assert "outputs of the network" not in text
        assert ("the class stands for the age group" in text) == (model is card)
    assert level_lines({}) == []
