"""The age that a header states."""

from __future__ import annotations

import pytest

from worker.pixels.age import age_of


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("045Y", 45),
        ("45", 45),
        (" 007y ", 7),
        ("006M", 0.5),
        ("010D", 10 / 365.25),
        ("110Y", 110),
        ("000Y", None),
        ("0", None),
        ("111Y", None),
        ("999", None),
        ("", None),
        ("adult", None),
        ("-5Y", None),
        ("45.5", None),
    ],
)
def test_patient_age_counts_where_it_is_plausible(text: str, years: float | None) -> None:
    assert age_of(text, "", "") == (None if years is None else pytest.approx(years, rel=1e-3))


@pytest.mark.parametrize(
    ("born", "taken", "years"),
    [
        ("20000615", "20180614", 17),
        ("20000615", "20180615", 18),
        ("2000.06.15", "20180615", 18),
        ("20180101", "20180131", 30 / 365.25),
        ("19000101", "20180131", None),
        ("20180131", "20180131", None),
        ("20190131", "20180131", None),
        ("18500101", "20180131", None),
        ("20001341", "20180131", None),
        ("", "20180131", None),
        ("20000615", "", None),
    ],
)
def test_the_dates_serve_where_the_age_is_missing(born: str, taken: str, years: float | None) -> None:
    assert age_of("", born, taken) == (None if years is None else pytest.approx(years, rel=1e-3))


def test_patient_age_goes_before_the_dates_unless_it_is_implausible() -> None:
    assert age_of("050Y", "20000615", "20180615") == 50
    assert age_of("000Y", "20000615", "20180615") == 18
