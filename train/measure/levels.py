"""Figures at each level of a model's tree, and what the header's age adds to them.

Answers are those of the service: `worker.verdict.decide` makes each verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.data.classes import PAPER
from train.measure.bootstrap import resample, span
from train.measure.curves import bin_columns, ece_of_sums
from train.measure.metrics import confusion_columns, rates
from worker.inference.card import ModelCard
from worker.inference.tree import Node, Tree
from worker.pixels.age import OLDEST
from worker.verdict.decide import HeaderFacts, Policy, Verdict, decide

MISSING, WRONG = 0.05, 0.02
"""Shares of headers without an age, and with an age of the other group, in the figure `imperfect`."""

PIXELS_ALONE = Policy(use_age=False)


@dataclass(frozen=True)
class Level:
    """A cut through a tree.

    classes: its names. holder: the class of each node at the cut or below it, by name; nodes above are not in it.
    """

    classes: tuple[str, ...]
    holder: Mapping[str, str]

    @classmethod
    def of(cls, holder: Mapping[str, str], outputs: Sequence[str]) -> Level:
        """A level whose classes stand in the order of the outputs below them."""
        return cls(tuple(dict.fromkeys(holder[leaf] for leaf in outputs)), holder)

    def indices(self, names: Sequence[str | None]) -> np.ndarray:
        """(n,) class of each node, -1 for a node above the cut and for None."""
        number = {name: index for index, name in enumerate(self.classes)}
        return np.array([number.get(self.holder.get(name or "", ""), -1) for name in names], int)


def levels_of(tree: Tree) -> dict[str, Level]:
    """The levels `five`, `four` and `leaves` of a tree.

    five: the topmost nodes of which an answer is complete; in the shipped model the paper's five. Without such a
    node on the way to a leaf, the leaf. four: the same with the classes below a partial label of the paper
    (the node `chest`; in a flat file the two chests, where both are there) as one class. leaves: the network's outputs.
    """
    five = {node.name: top.name for root in tree.roots for top in _tops(root) for node in top.walk()}
    four = dict(five)
    for name, children in PAPER.partial.items():
        if name in tree.nodes:
            four |= dict.fromkeys((node.name for node in tree.nodes[name].walk()), name)
        elif set(children) <= set(five.values()):
            four |= {node: name for node, top in five.items() if top in children} | {name: name}
    holders = {"five": five, "four": four, "leaves": {name: name for name in tree.outputs}}
    return {name: Level.of(holder, tree.outputs) for name, holder in holders.items()}


def _tops(node: Node) -> list[Node]:
    if node.complete or not node.children:
        return [node]
    return [top for child in node.children for top in _tops(child)]


def measure_levels(
    probabilities: np.ndarray, truth: Sequence[str], groups: np.ndarray, strange: np.ndarray, card: ModelCard
) -> dict[str, Any]:
    """Figures at the levels five, four and leaves, by pixels alone.

    probabilities: (n, outputs) calibrated. truth: n names of nodes. groups: (n,) patients.
    strange: (n,) bool, images that do not look like an X-ray: none of them is answered.

    At each level: `classes`; `n` images whose truth is at the level or below it, the others are left out;
    `macro_f1` and `ece` of the level's class on the likeliest path; `answered` with the coverage, the accuracy
    and both by true class; `intervals`. An image is answered at a level where the verdict's sure node is one
    of the level's classes or below one.
    """
    verdicts = _verdicts(probabilities, [None] * len(truth), strange, card)
    answers = [_answer(verdict) for verdict in verdicts]
    likeliest = [card.tree.likeliest_path(row)[-1].node.name for row in probabilities]
    return {
        name: _at_level(level, probabilities, truth, likeliest, answers, groups, card.tree)
        for name, level in levels_of(card.tree).items()
    }


def _verdicts(
    probabilities: np.ndarray, ages: Sequence[float | None], strange: np.ndarray, card: ModelCard
) -> list[Verdict]:
    return [
        decide(row, HeaderFacts(age=age), card, PIXELS_ALONE if age is None else None, bool(odd))
        for row, age, odd in zip(probabilities, ages, strange)
    ]


def _answer(verdict: Verdict) -> str | None:
    return verdict.path[-1] if verdict.path else None


def _at_level(
    level: Level,
    probabilities: np.ndarray,
    names: Sequence[str],
    likeliest: Sequence[str],
    answers: Sequence[str | None],
    groups: np.ndarray,
    tree: Tree,
) -> dict[str, Any]:
    count = len(level.classes)
    all_truth = level.indices(names)
    kept = all_truth >= 0
    if not kept.any():
        return {"classes": list(level.classes), "n": 0}
    truth, predicted, said = all_truth[kept], level.indices(likeliest)[kept], level.indices(answers)[kept]
    members = [[i for i, leaf in enumerate(tree.outputs) if level.holder[leaf] == name] for name in level.classes]
    summed = np.stack([probabilities[kept][:, columns].sum(1) for columns in members], 1)
    confidence = np.minimum(summed[np.arange(len(truth)), predicted], 1)
    answered, right = said >= 0, said == truth
    pairs, bins = confusion_columns(truth, predicted, count), bin_columns(confidence, predicted == truth)
    sums = resample(np.hstack([pairs, bins, answered[:, None], right[:, None]]), groups[kept])
    f1 = rates(sums[:, : count * count].reshape(-1, count, count))[2]
    ece = ece_of_sums(sums[:, count * count : -2])
    shares = _shares(sums[:, : count * count].sum(1), sums[:, -2], sums[:, -1])
    return {
        "classes": list(level.classes),
        "n": int(kept.sum()),
        "macro_f1": span(np.nanmean(f1, axis=1)),
        "answered": {**shares["answered"], "per_class": _by_class(level, truth, answered, right)},
        "ece": round(float(ece[0]), 4),
        "intervals": {**shares["intervals"], "ece": span(ece)},
    }


def _shares(images: np.ndarray, answered: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """`answered` (coverage, accuracy) and their `intervals`, from sums over images: (1 + replicates,) each."""
    with np.errstate(invalid="ignore", divide="ignore"):
        spans = {"coverage": span(answered / images), "accuracy": span(right / answered)}
    return {
        "answered": {key: None if found is None else found["value"] for key, found in spans.items()},
        "intervals": spans,
    }


def _by_class(level: Level, truth: np.ndarray, answered: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Images of each true class, the share that is answered, and the share of right answers among these."""
    found = {}
    for index, name in enumerate(level.classes):
        among = truth == index
        images, given = int(among.sum()), float(answered[among].sum())
        found[name] = {
            "n": images,
            "coverage": round(given / images, 4) if images else None,
            "accuracy": round(float(right[among].sum()) / given, 4) if given else None,
        }
    return found


def measure_header_age(
    probabilities: np.ndarray,
    truth: Sequence[str],
    ages: np.ndarray,
    groups: np.ndarray,
    strange: np.ndarray,
    card: ModelCard,
    seed: int = 0,
) -> dict[str, Any] | None:
    """What the header's age adds at the level five; None where the tree has no nodes that an age decides between.

    ages: (n,) years, nan where the manifest has none; implausible ones count as none. The other arguments
    are those of `measure_levels`.

    An image without an age whose truth is such a node gets the least age of that node (`from_class`: how many):
    the class stands for the age group. Any other image without an age gets one drawn from those that are known
    (`drawn`), because an age can also make a wrong answer of a partial one. seed: of this drawing.

    `known`: each header has the right age. `imperfect`: MISSING of the headers have none, and WRONG have an age
    of the other group, each image with the same chance: the mean over all such drawings, not one of them.
    """
    tree = card.tree
    decided = {node.name: node for node in tree.nodes.values() if node.ages is not None and tree.ancestors(node.name)}
    if not decided:
        return None
    level = levels_of(tree)["five"]
    all_truth = level.indices(truth)
    kept = all_truth >= 0
    if not kept.any():
        return None
    names = [name for name, known in zip(truth, kept) if known]
    right_ages, from_class, drawn = _ages(names, ages[kept], decided, tree, np.random.default_rng(seed))
    wrong_ages = [None if age is None else _of_another_group(age, list(decided.values())) for age in right_ages]
    without = [None] * len(names)
    counted = {}
    for case, given in (("known", right_ages), ("missing", without), ("wrong", wrong_ages)):
        said = level.indices([_answer(v) for v in _verdicts(probabilities[kept], given, strange[kept], card)])
        counted[case] = np.stack([np.ones(len(said)), said >= 0, said == all_truth[kept]], 1)
    imperfect = (1 - MISSING - WRONG) * counted["known"] + MISSING * counted["missing"] + WRONG * counted["wrong"]
    figures: dict[str, Any] = {"n": len(names), "from_class": from_class, "drawn": drawn}
    for case, columns in (("known", counted["known"]), ("imperfect", imperfect)):
        shares = _shares(*resample(columns, groups[kept]).T)
        by_class = _by_class(level, all_truth[kept], columns[:, 1], columns[:, 2])
        figures[case] = {**shares["answered"], "intervals": shares["intervals"], "per_class": by_class}
    figures["imperfect"] |= {"missing": MISSING, "wrong": WRONG}
    return figures


def _ages(
    names: Sequence[str], ages: np.ndarray, decided: Mapping[str, Node], tree: Tree, random: np.random.Generator
) -> tuple[list[float | None], int, int]:
    """(age of each image, how many stand for a class, how many are drawn); None for all where no age is known."""
    found: list[float | None] = [float(age) if 0 <= age <= OLDEST else None for age in ages]
    from_class = 0
    for row, name in enumerate(names):
        node = next((decided[part] for part in (name, *tree.ancestors(name)) if part in decided), None)
        if found[row] is None and node is not None and node.ages is not None:
            found[row] = node.ages[0]
            from_class += 1
    known = [age for age in found if age is not None]
    unknown = [row for row, age in enumerate(found) if age is None]
    if not known:
        return found, 0, 0
    for row, age in zip(unknown, random.choice(known, len(unknown))):
        found[row] = float(age)
    return found, from_class, len(unknown)


def _of_another_group(age: float, groups: Sequence[Node]) -> float:
    """The least age of the first group that this age does not belong to."""
    ranges = [node.ages for node in groups if node.ages is not None]
    return next((low for low, below in ranges if not low <= age < below), age)
