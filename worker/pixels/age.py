"""The patient's age at the study, from what a header says of it. Nothing here is logged or recorded."""

from __future__ import annotations

import re
from datetime import date

OLDEST = 110.0
"""Years; a higher age is taken for a slip of the keyboard."""

PLACEHOLDER_BIRTH_DATES = frozenset({date(1900, 1, 1)})
"""Dates that consoles fill in where none is known."""

_YEARS = {"Y": 1.0, "": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
"""Units of a value of VR AS (PS3.5 6.2) in a year; digits alone, as old consoles write them, are years."""


def age_of(patient_age: str, birth_date: str, study_date: str) -> float | None:
    """The plausible age in years, or None.

    patient_age: (0010,1010) Patient's Age. birth_date: (0010,0030) Patient's
    Birth Date. study_date: (0008,0020) Study Date. Each as the file has it, "" where missing.

    Patient's Age counts first, then the study's date less the birth date.
    Implausible are an age of 0 years (a placeholder; newborns have days,
    weeks or months), a birth on 1900-01-01 or on the study's date, and whatever is over OLDEST.
    """
    found = _from_text(patient_age)
    return found if found is not None else _from_dates(birth_date, study_date)


def _from_text(text: str) -> float | None:
    found = re.fullmatch(r"(\d{1,3})([YMWD]?)", text.strip().upper())
    if found is None:
        return None
    years = int(found[1]) / _YEARS[found[2]]
    return years if 0 < years <= OLDEST else None


def _from_dates(birth: str, study: str) -> float | None:
    born, taken = _date(birth), _date(study)
    if born is None or taken is None or born in PLACEHOLDER_BIRTH_DATES or born >= taken:
        return None
    years = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
    # Below a year the days count: 0 would read as a placeholder.
    age = float(years) if years else (taken - born).days / 365.25
    return age if age <= OLDEST else None


def _date(text: str) -> date | None:
    """Of a value of VR DA (PS3.5 6.2): YYYYMMDD, or YYYY.MM.DD of ACR-NEMA."""
    digits = text.strip().replace(".", "").replace("-", "")
    if not re.fullmatch(r"\d{8}", digits):
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
