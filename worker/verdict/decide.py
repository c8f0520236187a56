"""From probabilities to a verdict: a value with provenance. No input or output here.

The verdict is the deepest node of the model's tree that passes its threshold,
on the way from the likeliest root to the likeliest leaf. Where the pixels are
sure of a node whose children differ in the patient's age, a plausible age of
the header decides between these children.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from worker import __version__
from worker.contract import FAILED, MISMATCH, REVIEW
from worker.errors import NotAnXRay, RouterError
from worker.inference.card import ModelCard
from worker.inference.tree import Node, Step, Tree

Outcome = Literal["judged", "partial", "review", "failed", "not_an_xray"]

VERDICT_VERSION = 2
MESSAGE_LENGTH = 300
"""Longest error text in a verdict (characters): metadata should stay below 1 KB."""

LEAST_PROBABILITY = 0.005
"""Leaves below it are left out of a recorded verdict."""

NOT_LIKE_AN_X_RAY = "not like an X-ray"


@dataclass(frozen=True)
class HeaderFacts:
    """What the header says and the verdict uses.

    body_part_examined: (0018,0015), "" where missing. age: plausible age in years, None where there is none.
    """

    body_part_examined: str = ""
    age: float | None = None


@dataclass(frozen=True)
class Shift:
    """A site's correction: log-odds added to one node against its siblings, and where they come from.

    node: which node of the tree. log_odds: natural logarithm. source: name of the site file's entry.
    """

    node: str
    log_odds: float
    source: str


@dataclass(frozen=True)
class Policy:
    """How a site wants verdicts to be made.

    use_age: whether the header's age decides. shift: the site's correction, None for none.
    """

    use_age: bool = True
    shift: Shift | None = None


@dataclass(frozen=True)
class Verdict:
    """What was found in one image.

    outcome: `judged` (a complete answer), `partial` (sure of a node that is
        not complete), `review` (sure of none), `failed`, or `not_an_xray` (left alone: no label).
    path: names of the sure nodes, from the root to the answer.
    body_part: the last node of `path`; under `review` the likeliest leaf; None without one.
    confidence: its calibrated probability (0..1); where the age decided, that of the node above.
    probabilities: of every leaf.
    pixels: the last sure node by pixels alone, None where there is none.
    stopped: why the answer is not deeper, "" where it is complete.
    decided_by: `pixels`, or `age` where the header's age chose between siblings.
    header: (0018,0015) Body Part Examined as the file has it.
    mismatches: `body_part` where that term belongs to other nodes, `age` where
        the pixels alone answer the other age group.
    error: (kind, message) for `failed` and `not_an_xray`.
    milliseconds: time spent by step.
    """

    outcome: Outcome
    model: ModelCard
    path: tuple[str, ...] = ()
    body_part: str | None = None
    confidence: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    pixels: str | None = None
    stopped: str = ""
    decided_by: Literal["pixels", "age"] = "pixels"
    site: str = ""
    header: str = ""
    mismatches: tuple[str, ...] = ()
    error: tuple[str, str] | None = None
    milliseconds: dict[str, int] = field(default_factory=dict)

    @property
    def mismatch(self) -> bool:
        return bool(self.mismatches)

    @property
    def answer(self) -> str | None:
        """The value of the metadata BodyPart: the deepest sure node, `review`, `failed` or None."""
        if self.outcome in ("judged", "partial"):
            return self.body_part
        return {"review": REVIEW, "failed": FAILED}.get(self.outcome)

    def labels(self, prefix: str) -> list[str]:
        """The labels that this verdict puts on its instance, series and study."""
        names = {"failed": [FAILED], "not_an_xray": []}.get(self.outcome, list(self.path))
        if self.outcome in ("partial", "review"):
            names.append(REVIEW)
        if self.mismatch:
            names.append(MISMATCH)
        return [prefix + name for name in names]

    def to_json(self, prefix: str) -> dict[str, Any]:
        """The value of the metadata BodyPartVerdict."""
        return {
            "v": VERDICT_VERSION,
            "outcome": self.outcome,
            "path": list(self.path),
            "body_part": self.body_part,
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "probabilities": {
                name: round(p, 3 if len(self.probabilities) > 8 else 4)
                for name, p in self.probabilities.items()
                if p >= LEAST_PROBABILITY
            },
            "stopped": self.stopped,
            "pixels": self.pixels,
            "decided_by": self.decided_by,
            "site": self.site,
            "labels": self.labels(prefix),
            "header": self.header[:64],
            "mismatch": list(self.mismatches),
            "error": None if self.error is None else {"kind": self.error[0], "message": self.error[1]},
            "model": f"{self.model.name} {self.model.version}",
            "model_sha256": self.model.sha256,
            "model_precision": self.model.precision,
            "router": __version__,
            "ms": self.milliseconds,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def decide(
    probabilities: np.ndarray,
    header: HeaderFacts,
    model: ModelCard,
    policy: Policy | None = None,
    strange: bool = False,
) -> Verdict:
    """The verdict on one image.

    probabilities: (leaves,) calibrated, summing to 1.
    policy: None for the header's age and no shift.
    strange: whether the pixels do not look like an X-ray; then nothing is answered.
    """
    policy = policy or Policy()
    tree = model.tree
    leaves = _shifted(np.asarray(probabilities, np.float64), tree, policy.shift)
    steps = tree.likeliest_path(leaves)
    sure = [] if strange else _sure(steps)
    pixels = sure
    decided_by: Literal["pixels", "age"] = "pixels"
    if policy.use_age and header.age is not None:
        by_age = _by_age(sure, header.age)
        if by_age is not None:
            sure, decided_by = by_age, "age"
    outcome, stopped = _outcome(sure, steps, strange)
    last = sure[-1] if sure else steps[-1]
    return Verdict(
        outcome=outcome,
        model=model,
        path=tuple(step.node.name for step in sure),
        body_part=last.node.name,
        confidence=last.probability,
        probabilities={name: float(p) for name, p in zip(tree.outputs, leaves)},
        pixels=pixels[-1].node.name if pixels else None,
        stopped=stopped,
        decided_by=decided_by,
        site=policy.shift.source if policy.shift else "",
        header=header.body_part_examined,
        mismatches=tuple(_mismatches(header.body_part_examined, sure, pixels, decided_by, tree)),
    )


def _shifted(leaves: np.ndarray, tree: Tree, shift: Shift | None) -> np.ndarray:
    """(leaves,) with a node's odds against its siblings multiplied; what they have together stays."""
    if shift is None or shift.node not in tree.nodes:
        return leaves
    above = tree.ancestors(shift.node)
    family = tree.columns(above[-1]) if above else list(range(len(leaves)))
    raised = leaves.copy()
    raised[tree.columns(shift.node)] *= np.exp(shift.log_odds)
    total = raised[family].sum()
    if total > 0:
        raised[family] *= leaves[family].sum() / total
    return raised


def _sure(steps: list[Step]) -> list[Step]:
    """The steps down to the deepest sure one. A node above it is at least as probable, so it counts as sure."""
    depth = max((index + 1 for index, step in enumerate(steps) if step.sure), default=0)
    return steps[:depth]


def _by_age(sure: list[Step], age: float) -> list[Step] | None:
    """The sure steps with the child that the age names in the last place; None where the age decides nothing.

    Only below a node that the pixels are sure of, or in place of a child of it that
    differs from its siblings in age alone.
    """
    for depth, step in enumerate(sure):
        groups = [child for child in step.node.children if child.ages is not None]
        if not groups:
            continue
        named = [child for child in groups if child.ages is not None and child.ages[0] <= age < child.ages[1]]
        if len(named) != 1:
            return None
        return [*sure[: depth + 1], Step(named[0], step.probability)]
    return None


def _outcome(sure: list[Step], steps: list[Step], strange: bool) -> tuple[Outcome, str]:
    """(outcome, why the answer is not deeper)."""
    if strange:
        return "review", NOT_LIKE_AN_X_RAY
    if not sure:
        return "review", _unsure(steps[0])
    if sure[-1].node.complete:
        return "judged", ""
    return "partial", _unsure(steps[len(sure)])


def _unsure(step: Step) -> str:
    if step.node.threshold > 1:
        return f"{step.node.name} is never answered"
    return f"{step.node.name} {step.probability:.3f} is below {step.node.threshold:.3f}"


def _mismatches(header: str, sure: list[Step], pixels: list[Step], decided_by: str, tree: Tree) -> list[str]:
    found = []
    if sure and _disagrees(header, sure[-1].node, tree):
        found.append("body_part")
    if decided_by == "age" and pixels and pixels[-1].node.ages is not None and pixels[-1].node is not sure[-1].node:
        found.append("age")
    return found


def _disagrees(header: str, answer: Node, tree: Tree) -> bool:
    """Whether the header names a part that is neither the answer nor above or below it.

    Unknown, vague or missing terms say nothing.
    """
    term = header.upper().strip()
    agreeing = {node.name for node in tree.nodes.values() if term in node.header_terms}
    return bool(agreeing) and not agreeing & tree.related(answer.name)


def fail(error: RouterError, model: ModelCard) -> Verdict:
    """The verdict on an image that cannot be judged, or is not ours to judge."""
    outcome: Outcome = "not_an_xray" if isinstance(error, NotAnXRay) else "failed"
    return Verdict(outcome=outcome, model=model, error=(error.kind, str(error)[:MESSAGE_LENGTH]))
