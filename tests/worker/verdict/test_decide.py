"""From probabilities to a verdict."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from worker.contract import dump_verdict, load_verdict
from worker.errors import CorruptPixels, NotAnXRay
from worker.inference.card import ModelCard
from worker.inference.classifier import Classifier
from worker.inference.tree import Node, Tree
from worker.verdict.decide import NOT_LIKE_AN_X_RAY, HeaderFacts, Policy, Shift, Verdict, decide, fail

CHEST_TERMS = frozenset({"CHEST", "THORAX"})


def leaf(name: str, *terms: str, threshold: float = 0.8, ages: tuple[float, float] | None = None) -> Node:
    return Node(name, name, "", "", threshold, frozenset(terms), ages=ages)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    """The shipped card with a tree of three levels, every threshold 0.8."""
    chest = Node(
        "chest", "chest", "", "", 0.8, CHEST_TERMS, complete=False,
        children=(leaf("adult_chest", ages=(18, 200)), leaf("pediatric_chest", ages=(0, 16))),
    )  # fmt: skip
    limb = Node("upper_limb", "", "", "", 0.8, frozenset({"EXTREMITY"}), children=(leaf("hand", "HAND"), leaf("wrist")))
    other = Node("other", "", "", "", 0.8, frozenset(), children=(limb, leaf("knee", "KNEE", threshold=1.1)))
    roots = [leaf("abdominal", "ABDOMEN"), chest, leaf("spine", "LSPINE"), other]
    outputs = ["abdominal", "adult_chest", "pediatric_chest", "spine", "hand", "wrist", "knee"]
    return replace(Classifier(device="cpu").card, tree=Tree(roots, outputs))


def judge(
    card: ModelCard, header: str = "", age: float | None = None, policy: Policy | None = None, **given: float
) -> Verdict:
    """The verdict where the leaves that are not named share the rest."""
    rest = (1 - sum(given.values())) / (len(card.classes) - len(given))
    leaves = np.array([given.get(node.name, rest) for node in card.classes])
    return decide(leaves, HeaderFacts(header, age), card, policy)


def test_an_answer_needs_the_threshold_of_its_node(card: ModelCard) -> None:
    assert judge(card, spine=0.8).answer == "spine"
    unsure = judge(card, spine=0.79)
    assert (unsure.answer, unsure.body_part, unsure.outcome) == ("review", "spine", "review")
    assert unsure.labels("bp-") == ["bp-review"]
    assert unsure.stopped == "spine 0.790 is below 0.800"


def test_the_answer_is_the_deepest_sure_node(card: ModelCard) -> None:
    deep = judge(card, hand=0.9)
    assert (deep.answer, deep.path, deep.outcome) == ("hand", ("other", "upper_limb", "hand"), "judged")
    middle = judge(card, hand=0.5, wrist=0.45)
    assert (middle.answer, middle.path, middle.outcome) == ("upper_limb", ("other", "upper_limb"), "judged")
    assert middle.labels("bp-") == ["bp-other", "bp-upper_limb"]


def test_a_sure_node_that_is_not_complete_is_a_partial_answer(card: ModelCard) -> None:
    verdict = judge(card, adult_chest=0.5, pediatric_chest=0.45)
    assert (verdict.answer, verdict.outcome) == ("chest", "partial")
    assert verdict.labels("bp-") == ["bp-chest", "bp-review"]
    assert verdict.stopped == "adult_chest 0.500 is below 0.800"


def test_a_leaf_that_is_never_answered_leaves_the_answer_to_its_parent(card: ModelCard) -> None:
    assert judge(card, knee=1.0).answer == "other"


@pytest.mark.parametrize(
    ("header", "mismatch"),
    [
        ("CHEST", True), ("chest ", True), ("LSPINE", False), ("", False), ("TRAUMA SERIES", False), ("HAND", True),
        ("EXTREMITY", True),
    ],
)  # fmt: skip
def test_a_header_disagrees_only_where_it_clearly_names_another_part(
    card: ModelCard, header: str, mismatch: bool
) -> None:
    verdict = judge(card, header, spine=0.95)
    assert verdict.mismatches == (("body_part",) if mismatch else ())
    assert ("bp-mismatch" in verdict.labels("bp-")) is mismatch


def test_a_header_agrees_with_nodes_above_and_below_its_own(card: ModelCard) -> None:
    assert not judge(card, "CHEST", adult_chest=0.95).mismatch
    assert not judge(card, "CHEST", adult_chest=0.5, pediatric_chest=0.45).mismatch
    assert not judge(card, "HAND", hand=0.5, knee=0.45).mismatch  # answered as other
    assert not judge(card, "EXTREMITY", hand=0.95).mismatch
    assert judge(card, "KNEE", hand=0.95).mismatch


def test_nothing_is_compared_where_nothing_was_answered(card: ModelCard) -> None:
    assert not judge(card, "CHEST", spine=0.5).mismatch


@pytest.mark.parametrize(
    ("age", "answer"), [(15.9, "pediatric_chest"), (16, "chest"), (17.9, "chest"), (18, "adult_chest"), (None, "chest")]
)
def test_the_age_decides_where_the_pixels_are_sure_of_a_chest(card: ModelCard, age: float | None, answer: str) -> None:
    verdict = judge(card, age=age, adult_chest=0.5, pediatric_chest=0.45)
    assert verdict.answer == answer
    assert verdict.pixels == "chest"
    assert not verdict.mismatch


def test_sixteen_and_seventeen_leave_the_answer_to_the_pixels(card: ModelCard) -> None:
    verdict = judge(card, age=17, adult_chest=0.9)
    assert (verdict.answer, verdict.decided_by) == ("adult_chest", "pixels")


def test_an_age_against_sure_pixels_wins_and_is_told(card: ModelCard) -> None:
    verdict = judge(card, age=40, pediatric_chest=0.95)
    assert (verdict.answer, verdict.decided_by, verdict.pixels) == ("adult_chest", "age", "pediatric_chest")
    assert verdict.mismatches == ("age",)
    assert verdict.labels("bp-") == ["bp-chest", "bp-adult_chest", "bp-mismatch"]


@pytest.mark.parametrize("given", [{"spine": 0.95}, {"adult_chest": 0.4, "pediatric_chest": 0.3}])
def test_an_age_never_makes_a_chest_of_what_the_pixels_do_not_call_one(
    card: ModelCard, given: dict[str, float]
) -> None:
    assert judge(card, age=40, **given).answer == judge(card, **given).answer


def test_the_age_can_be_switched_off(card: ModelCard) -> None:
    assert judge(card, age=40, policy=Policy(use_age=False), adult_chest=0.5, pediatric_chest=0.45).answer == "chest"


def test_a_shift_moves_siblings_alone_and_is_named(card: ModelCard) -> None:
    shift = Shift("adult_chest", 3.0, "site 2026-11-24")
    before = judge(card, adult_chest=0.3, pediatric_chest=0.65)
    after = judge(card, policy=Policy(shift=shift), adult_chest=0.3, pediatric_chest=0.65)
    assert (before.answer, after.answer) == ("chest", "adult_chest")
    odds = after.probabilities["adult_chest"] / after.probabilities["pediatric_chest"]
    assert np.log(odds) == pytest.approx(np.log(0.3 / 0.65) + 3.0)
    assert after.probabilities["spine"] == pytest.approx(before.probabilities["spine"])
    assert sum(after.probabilities.values()) == pytest.approx(1)
    assert after.to_json("bp-")["site"] == "site 2026-11-24"


def test_what_does_not_look_like_an_x_ray_is_not_answered(card: ModelCard) -> None:
    leaves = np.array([0, 0.99, 0.01, 0, 0, 0, 0])
    verdict = decide(leaves, HeaderFacts("", 40), card, strange=True)
    assert (verdict.outcome, verdict.stopped) == ("review", NOT_LIKE_AN_X_RAY)
    assert verdict.labels("bp-") == ["bp-review"]


def test_a_verdict_survives_its_way_through_the_metadata_below_1_kb(card: ModelCard) -> None:
    verdict = judge(card, "X" * 200, age=40, pediatric_chest=0.9)
    text = dump_verdict(verdict.to_json("bp-"))
    assert len(text) < 1024
    parsed = load_verdict(text)
    assert parsed is not None
    assert parsed == json.loads(text)
    assert (parsed["v"], parsed["path"], parsed["body_part"]) == (2, ["chest", "adult_chest"], "adult_chest")
    assert sum(parsed["probabilities"].values()) == pytest.approx(1, abs=0.01)
    assert "40" not in json.dumps({key: parsed[key] for key in ("pixels", "decided_by", "stopped", "header")})


def test_small_probabilities_are_left_out_of_the_metadata(card: ModelCard) -> None:
    assert judge(card, spine=0.997).to_json("bp-")["probabilities"] == {"spine": 0.997}


def test_failures_are_labelled_and_other_modalities_left_alone(card: ModelCard) -> None:
    failed = fail(CorruptPixels("(7FE0,0010) Pixel Data is cut off", "send it again"), card)
    assert (failed.answer, failed.labels("bp-")) == ("failed", ["bp-failed"])
    assert failed.to_json("bp-")["error"]["kind"] == "CorruptPixels"
    alone = fail(NotAnXRay("(0008,0060) Modality is 'CT'"), card)
    assert (alone.answer, alone.labels("bp-")) == (None, [])
