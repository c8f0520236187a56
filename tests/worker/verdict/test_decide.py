"""From probabilities to a verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from worker.contract import dump_verdict, load_verdict
from worker.errors import CorruptPixels, NotAnXRay
from worker.inference.card import ModelCard
from worker.inference.classifier import Classifier
from worker.verdict.decide import decide, fail


@pytest.fixture(scope="module")
def card() -> ModelCard:
    card = Classifier(device="cpu").card
    return replace(card, classes=tuple(replace(one, threshold=0.8) for one in card.classes))


def probabilities(card: ModelCard, **given: float) -> np.ndarray:
    rest = (1 - sum(given.values())) / (len(card.classes) - len(given))
    return np.array([given.get(one.name, rest) for one in card.classes])


def test_an_answer_needs_the_threshold_of_its_class(card: ModelCard) -> None:
    assert decide(probabilities(card, spine=0.8), "", card).answer == "spine"
    unsure = decide(probabilities(card, spine=0.79), "", card)
    assert (unsure.answer, unsure.body_part, unsure.outcome) == ("review", "spine", "review")
    assert unsure.labels("bp-") == ["bp-review"]


@pytest.mark.parametrize(
    ("header", "mismatch"),
    [("CHEST", True), ("chest ", True), ("LSPINE", False), ("", False), ("TRAUMA SERIES", False), ("HAND", True)],
)
def test_a_header_disagrees_only_where_it_clearly_names_another_part(
    card: ModelCard, header: str, mismatch: bool
) -> None:
    verdict = decide(probabilities(card, spine=0.95), header, card)
    assert verdict.mismatch is mismatch
    assert ("bp-mismatch" in verdict.labels("bp-")) is mismatch


def test_a_chest_header_agrees_with_both_chests(card: ModelCard) -> None:
    for one in ("adult_chest", "pediatric_chest"):
        assert not decide(probabilities(card, **{one: 0.95}), "CHEST", card).mismatch


def test_no_mismatch_is_claimed_while_unsure(card: ModelCard) -> None:
    assert not decide(probabilities(card, spine=0.5), "CHEST", card).mismatch


def test_a_failure_says_why_and_what_is_no_x_ray_gets_no_label(card: ModelCard) -> None:
    failed = fail(CorruptPixels("broken"), card)
    assert (failed.answer, failed.labels("bp-"), failed.error) == ("failed", ["bp-failed"], ("CorruptPixels", "broken"))
    alone = fail(NotAnXRay("a report"), card)
    assert (alone.answer, alone.labels("bp-")) == (None, [])


def test_a_verdict_survives_its_metadata_and_stays_below_1_kb(card: ModelCard) -> None:
    verdict = decide(probabilities(card, spine=0.95), "X" * 500, card).to_json("bp-")
    text = dump_verdict(verdict)
    assert len(text) < 1024
    assert load_verdict(text) == verdict


@pytest.mark.parametrize("text", [None, "", "no json", "[]", "{}", '"bp-spine"'])
def test_metadata_that_is_no_verdict_is_none(text: str | None) -> None:
    assert load_verdict(text) is None
