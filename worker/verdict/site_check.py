"""How far does a model's choice between age groups agree with the ages that a site knows? Numbers only.

The shift is the constant that, added to the log-odds of the older group against its siblings, minimises the
log loss of the known groups: logistic regression with slope 1, of which only the intercept is fitted. Classes
are not reweighted: a site's share of children belongs to what the shift corrects. A normal prior at 0 of
standard deviation PRIOR_DEVIATION keeps it finite.

A site with images of one group only can say how far its adults lie from the boundary, but not where its children
would lie, and each further adult would push the shift on although nothing is shifted (to +5.9 for 2,000 drawn
adults). There all images count together as LEAST_IMAGES, however many they are, so that the prior keeps its
weight; the check says so (`one_sided`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from worker.inference.tree import Node, Tree

LEAST_IMAGES = 20
"""Images of known age without which no shift is kept: the interval would be wider than most shifts."""

LEAST_OF_A_GROUP = 5
"""Images of each group below which a site counts as one-sided."""

PRIOR_DEVIATION = 1.0
"""Of the shift, in log-odds. 1 was chosen among 1, 2, 3 and 5 on the images of Shenzhen and Montgomery, for
the children at sites of adults only. At Shenzhen, 200 images of both groups give 97 to 98% right with any of them."""

LARGEST_SHIFT = 20.0
STEP = 0.01
LEAST_ODDS = 1e-12


@dataclass(frozen=True)
class Groups:
    """The nodes between which age decides. parent: the node above them. older: the one that the shift raises."""

    parent: Node
    older: Node
    younger: tuple[Node, ...]


@dataclass(frozen=True)
class Observation:
    """One image of known age.

    station: name of the device. log_odds: of the older group by pixels alone (natural logarithm). older: whether
    the header's age is of that group. answered: whether pixels alone pass a group's threshold.
    """

    station: str
    log_odds: float
    older: bool
    answered: bool

    @property
    def agrees(self) -> bool:
        """Whether the group that the pixels prefer is that of the header's age."""
        return (self.log_odds > 0) == self.older


@dataclass(frozen=True)
class Agreement:
    """How often pixels and age agree at a station. Intervals: 95% by Wilson, as shares (0..1)."""

    station: str
    images: int
    older: int
    agree: int
    interval: tuple[float, float]
    answered: int
    answered_agree: int
    answered_interval: tuple[float, float]


@dataclass(frozen=True)
class Fit:
    """The shift in log-odds, its 95% interval, and whether images of one group are (nearly) missing."""

    log_odds: float
    interval: tuple[float, float]
    one_sided: bool


def groups_of(tree: Tree) -> Groups | None:
    """The nodes of a model between which the patient's age decides; None where it has no such nodes."""
    for parent in tree.nodes.values():
        aged = sorted((child for child in parent.children if child.ages), key=lambda child: child.ages or (0, 0))
        if len(aged) > 1:
            return Groups(parent, aged[-1], tuple(aged[:-1]))
    return None


def observe(leaves: np.ndarray, age: float, station: str, tree: Tree, groups: Groups) -> Observation | None:
    """What an image says of the model, by pixels alone; None where they are not sure of the parent node.

    leaves: (outputs,) calibrated probabilities without any shift. age: years. None, too, for ages between the groups.
    """
    older = _contains(groups.older, age)
    if older == any(_contains(node, age) for node in groups.younger):
        return None
    if tree.probability(groups.parent.name, leaves) < groups.parent.threshold:
        return None
    for_older = tree.probability(groups.older.name, leaves)
    against = tree.probability(groups.parent.name, leaves) - for_older
    siblings = [node for node in groups.parent.children if node is not groups.older]
    answered = for_older >= groups.older.threshold or any(
        tree.probability(node.name, leaves) >= node.threshold for node in siblings
    )
    return Observation(station, math.log(max(for_older, LEAST_ODDS) / max(against, LEAST_ODDS)), older, answered)


def _contains(node: Node, age: float) -> bool:
    return node.ages is not None and node.ages[0] <= age < node.ages[1]


def wilson(right: int, number: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson, 1927); (0, 1) without any image."""
    if number == 0:
        return 0.0, 1.0
    z = 1.959964
    share, weight = right / number, z * z / number
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / number + weight / (4 * number)) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def agreement(observations: Sequence[Observation], station: str = "all") -> Agreement:
    """Counts over these images, under a name."""
    answered = [seen for seen in observations if seen.answered]
    agree, answered_agree = (sum(seen.agrees for seen in group) for group in (observations, answered))
    return Agreement(
        station=station,
        images=len(observations),
        older=sum(seen.older for seen in observations),
        agree=agree,
        interval=wilson(agree, len(observations)),
        answered=len(answered),
        answered_agree=answered_agree,
        answered_interval=wilson(answered_agree, len(answered)),
    )


def by_station(observations: Sequence[Observation]) -> list[Agreement]:
    """The agreement at each station, the station with the most images first."""
    stations = {seen.station for seen in observations}
    found = [agreement([seen for seen in observations if seen.station == name], name) for name in stations]
    return sorted(found, key=lambda each: (-each.images, each.station))


def agree_with_shift(observations: Iterable[Observation], log_odds: float) -> int:
    """How many images agree once the shift is applied."""
    return sum((seen.log_odds + log_odds > 0) == seen.older for seen in observations)


def fit_shift(observations: Sequence[Observation]) -> Fit:
    """The most probable shift and its 95% interval (of the posterior on a grid of STEP). 0 without any image."""
    shifts = np.arange(-LARGEST_SHIFT, LARGEST_SHIFT + STEP / 2, STEP)
    score = -(shifts**2) / (2 * PRIOR_DEVIATION**2)
    older = sum(seen.older for seen in observations)
    one_sided = min(older, len(observations) - older) < LEAST_OF_A_GROUP
    weight = min(1.0, LEAST_IMAGES / max(1, len(observations))) if one_sided else 1.0
    for seen in observations:  # image by image: the memory does not grow with their number
        sign = 1.0 if seen.older else -1.0
        score -= weight * np.logaddexp(0.0, -sign * (seen.log_odds + shifts))
    weights = np.exp(score - score.max())
    total = np.cumsum(weights) / weights.sum()
    low, high = (float(shifts[int(np.argmax(total >= share))]) for share in (0.025, 0.975))
    return Fit(round(float(shifts[score.argmax()]), 2), (round(low, 2), round(high, 2)), one_sided)
