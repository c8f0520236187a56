"""The statistics of a site's check, on drawn log-odds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from worker.inference.classifier import Classifier
from worker.inference.tree import Tree
from worker.verdict.site_check import (
    Observation,
    agree_with_shift,
    agreement,
    by_station,
    fit_shift,
    groups_of,
    observe,
    wilson,
)


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Classifier(device="cpu").card.tree


def drawn(shift: float, adults: int, children: int, station: str = "A", seed: int = 0) -> list[Observation]:
    """Images of a site whose log-odds are calibrated (mean 3, variance 6) but for `shift`, which it takes away."""
    random = np.random.default_rng(seed)
    return [
        Observation(station, sign * 3 + random.normal(0, math.sqrt(6)) - shift, sign > 0, answered=True)
        for sign, number in ((1, adults), (-1, children))
        for _ in range(number)
    ]


@pytest.mark.parametrize("shift", [-3.0, 0.0, 1.0, 4.0])
def test_the_shift_of_a_site_is_found(shift: float) -> None:
    images = drawn(shift, 300, 300)
    fit = fit_shift(images)
    assert fit.log_odds == pytest.approx(shift, abs=0.5)
    assert fit.interval[0] < fit.log_odds < fit.interval[1]
    assert not fit.one_sided
    assert agree_with_shift(images, fit.log_odds) >= agreement(images).agree


def test_intervals_hold_the_shift_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(100):
        low, high = fit_shift(drawn(1.0, 50, 50, seed=seed)).interval
        held += low <= 1.0 <= high
    assert held >= 88


@pytest.mark.parametrize(("adults", "children", "sign"), [(400, 0, 1), (0, 400, -1), (400, 4, 1)])
def test_a_site_with_one_group_gets_a_bounded_shift_and_is_told_so(adults: int, children: int, sign: int) -> None:
    fit = fit_shift(drawn(0.0, adults, children))
    assert fit.one_sided
    assert 0 <= sign * fit.log_odds < 2.5


def test_a_shift_does_not_grow_with_the_number_of_images_of_one_group() -> None:
    few, many = (fit_shift(drawn(0.0, number, 0)).log_odds for number in (200, 2000))
    assert many == pytest.approx(few, abs=0.5)


def test_without_images_there_is_no_shift() -> None:
    fit = fit_shift([])
    assert (fit.log_odds, fit.one_sided) == (0.0, True)
    assert fit.interval[0] == pytest.approx(-1.96, abs=0.02)


def test_impossible_odds_leave_numbers_finite() -> None:
    fit = fit_shift([Observation("A", 700.0, True, True), Observation("A", -700.0, True, True)] * 10)
    assert all(map(math.isfinite, (fit.log_odds, *fit.interval)))


def test_stations_are_told_apart_the_largest_first() -> None:
    found = by_station([*drawn(0, 10, 10, "A"), *drawn(4, 30, 10, "B")])
    assert [(each.station, each.images, each.older) for each in found] == [("B", 40, 30), ("A", 20, 10)]
    assert found[0].agree / 40 < found[1].agree / 20
    assert found[0].interval[0] < found[0].agree / 40 < found[0].interval[1]


def test_intervals_of_shares_are_those_of_wilson() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)


def test_an_image_counts_by_pixels_alone_and_where_they_are_sure_of_a_chest(tree: Tree) -> None:
    groups = groups_of(tree)
    assert groups is not None
    assert (groups.parent.name, groups.older.name) == ("chest", "adult_chest")

    def seen(adult: float, child: float, age: float) -> Observation | None:
        rest = (1 - adult - child) / 3
        given = {"adult_chest": adult, "pediatric_chest": child}
        return observe(np.array([given.get(name, rest) for name in tree.outputs]), age, "A", tree, groups)

    wrong = seen(0.2, 0.79, 40)
    assert wrong is not None
    assert (wrong.older, wrong.agrees, wrong.answered) == (True, False, False)
    assert wrong.log_odds == pytest.approx(math.log(0.2 / 0.79))
    right = seen(0.001, 0.999, 3)
    assert right is not None
    assert (right.older, right.agrees, right.answered) == (False, True, True)
    assert seen(0.5, 0.3, 40) is None
    assert seen(0.5, 0.499, 17) is None


def test_a_flat_model_has_no_groups(tree: Tree) -> None:
    assert groups_of(Tree([tree.nodes[name] for name in tree.outputs], tree.outputs)) is None
