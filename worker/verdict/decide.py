"""From probabilities to a verdict: a value with provenance. No input or output here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from worker import __version__
from worker.contract import FAILED, MISMATCH, REVIEW
from worker.errors import NotAnXRay, RouterError
from worker.inference.card import ModelCard

Outcome = Literal["judged", "review", "failed", "not_an_xray"]
MESSAGE_LENGTH = 300
"""Longest error text in a verdict (characters): metadata should stay below 1 KB."""


@dataclass(frozen=True)
class Verdict:
    """What was found in one image.

    outcome: `judged`, `review` (below its class's threshold), `failed`, or
        `not_an_xray` (left alone: no label).
    body_part: the likeliest class, also under `review`; None without one.
    confidence: its calibrated probability, 0..1.
    probabilities: of every class.
    header: (0018,0015) Body Part Examined as the file has it.
    mismatch: whether that term belongs to other classes than the judged one.
    error: (kind, message) for `failed` and `not_an_xray`.
    milliseconds: time spent by step.
    """

    outcome: Outcome
    model: ModelCard
    body_part: str | None = None
    confidence: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    header: str = ""
    mismatch: bool = False
    error: tuple[str, str] | None = None
    milliseconds: dict[str, int] = field(default_factory=dict)

    @property
    def answer(self) -> str | None:
        """The value of the metadata BodyPart: a class, `review`, `failed` or None."""
        return {"judged": self.body_part, "review": REVIEW, "failed": FAILED}.get(self.outcome)

    def labels(self, prefix: str) -> list[str]:
        """The labels that this verdict puts on its instance, series and study."""
        if self.answer is None:
            return []
        return [prefix + self.answer, *([prefix + MISMATCH] if self.mismatch else [])]

    def to_json(self, prefix: str) -> dict[str, Any]:
        """The value of the metadata BodyPartVerdict."""
        return {
            "v": 1,
            "outcome": self.outcome,
            "body_part": self.body_part,
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "probabilities": {name: round(p, 4) for name, p in self.probabilities.items()},
            "labels": self.labels(prefix),
            "header": self.header[:64],
            "error": None if self.error is None else {"kind": self.error[0], "message": self.error[1]},
            "model": f"{self.model.name} {self.model.version}",
            "model_sha256": self.model.sha256,
            "model_precision": self.model.precision,
            "router": __version__,
            "ms": self.milliseconds,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def decide(probabilities: np.ndarray, header: str, model: ModelCard) -> Verdict:
    """The verdict on one image.

    probabilities: (classes,) calibrated, summing to 1.
    header: (0018,0015) Body Part Examined, "" where missing.
    """
    top = int(np.argmax(probabilities))
    body_part, confidence = model.classes[top], float(probabilities[top])
    judged = confidence >= body_part.threshold
    return Verdict(
        outcome="judged" if judged else "review",
        model=model,
        body_part=body_part.name,
        confidence=confidence,
        probabilities={one.name: float(p) for one, p in zip(model.classes, probabilities)},
        header=header,
        mismatch=judged and _disagrees(header, body_part.name, model),
    )


def _disagrees(header: str, body_part: str, model: ModelCard) -> bool:
    """Whether the header names a part that belongs to other classes only.

    Unknown, vague or missing terms say nothing.
    """
    agreeing = {one.name for one in model.classes if header.upper().strip() in one.header_terms}
    return bool(agreeing) and body_part not in agreeing


def fail(error: RouterError, model: ModelCard) -> Verdict:
    """The verdict on an image that cannot be judged, or is not ours to judge."""
    outcome: Outcome = "not_an_xray" if isinstance(error, NotAnXRay) else "failed"
    return Verdict(outcome=outcome, model=model, error=(error.kind, str(error)[:MESSAGE_LENGTH]))
