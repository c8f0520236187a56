"""The worker's application as version 0.1.0 was: no tree, no age, verdicts of version 1.

Started with a model file whose tree was taken away. Its verdicts are written as that version wrote them.
"""

from typing import Any

import worker.verdict.decide
from worker.queue.app import app

OF_TODAY = ("path", "stopped", "pixels", "decided_by", "site")
to_json = worker.verdict.decide.Verdict.to_json


def as_version_1(self: worker.verdict.decide.Verdict, prefix: str) -> dict[str, Any]:
    """A verdict's JSON without what version 2 brought, every class with its probability, mismatch as a truth value."""
    verdict = {key: value for key, value in to_json(self, prefix).items() if key not in OF_TODAY}
    probabilities = {name: round(probability, 4) for name, probability in self.probabilities.items()}
    return {**verdict, "v": 1, "probabilities": probabilities, "mismatch": self.mismatch}


worker.verdict.decide.Verdict.to_json = as_version_1  # type: ignore[method-assign]

__all__ = ["app"]
