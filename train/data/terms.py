"""Terms for each class: title, DICOM defined term, SNOMED CT code, and values found in headers.

Terms of (0018,0015) Body Part Examined and their codes are those of DICOM
PS3.16 Annex L. `header_terms` are the values that agree with a class; values
that fit several of the paper's classes, or none with certainty, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

CodeString = Annotated[str, Field(pattern=r"^[A-Z0-9_ ]{0,16}$")]
"""DICOM's value representation CS (PS3.5 6.2)."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Terms:
    """A recipe's table [class.NAME]; defaults for missing fields are in `terms_of`.

    title: readable name. body_part_examined: DICOM's defined term. snomed_ct: the code of that body part.
    header_terms: values of (0018,0015) Body Part Examined that agree with the class.
    """

    title: str | None = None
    body_part_examined: CodeString | None = None
    snomed_ct: Annotated[str, Field(pattern=r"^[0-9]*$")] | None = None
    header_terms: tuple[CodeString, ...] | None = None


def terms_of(name: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Title, body_part_examined, snomed_ct and header_terms of a class, as the model file carries them.

    given: fields of Terms; None means not given. Defaults: the terms of the paper's classes; for any other class
    the title is its name, the header term its name in upper case, and DICOM term and code are empty.
    """
    words = name.replace("_", " ").strip()
    terms: dict[str, Any] = _PAPER.get(
        name,
        {
            "title": words[:1].upper() + words[1:],
            "body_part_examined": "",
            "snomed_ct": "",
            "header_terms": [words.upper()],
        },
    )
    if name in _AGES:
        terms = {**terms, "ages": _AGES[name]}
    return {**terms, **{key: value for key, value in (given or {}).items() if value is not None}}


def inner_nodes(
    partial: Mapping[str, Sequence[str]],
    given: Mapping[str, Any] | None = None,
    support: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The property `tree` of a model file: a node for each partial label, above the classes that it names.

    partial: classes by the name of the label. An answer there is partial. given: terms by name, as a recipe has them.
    """
    return [
        {
            "name": name,
            **terms_of(name, (given or {}).get(name)),
            "complete": False,
            "children": list(children),
            "support": dict((support or {}).get(name, {})),
        }
        for name, children in partial.items()
    ]


LEAST_OF_SUMS = 0.95
"""Least threshold of a node above classes: where nearly all images are right, they set no bound that would hold."""

_AGES = {"adult_chest": [18, 200], "pediatric_chest": [0, 16]}
"""(from, below) in years: a plausible age of the header decides between these."""

_CHEST_HEADERS = ["CHEST", "THORAX", "LUNG", "LUNGS", "HEART", "RIB", "RIBS"]

_PAPER: dict[str, dict[str, Any]] = {
    "chest": {
        "title": "Chest",
        "body_part_examined": "CHEST",
        "snomed_ct": "43799004",
        "header_terms": _CHEST_HEADERS,
    },
    "abdominal": {
        "title": "Abdomen",
        "body_part_examined": "ABDOMEN",
        "snomed_ct": "818983003",
        "header_terms": ["ABDOMEN", "ABD", "KUB", "KIDNEY", "BLADDER"],
    },
    "adult_chest": {
        "title": "Chest, adult",
        "body_part_examined": "CHEST",
        "snomed_ct": "43799004",
        "header_terms": _CHEST_HEADERS,
    },
    "pediatric_chest": {
        "title": "Chest, child",
        "body_part_examined": "CHEST",
        "snomed_ct": "43799004",
        "header_terms": _CHEST_HEADERS,
    },
    "spine": {
        "title": "Spine",
        "body_part_examined": "SPINE",
        "snomed_ct": "421060004",
        "header_terms": ["SPINE", "CSPINE", "TSPINE", "LSPINE", "SSPINE", "CTSPINE", "TLSPINE", "LSSPINE", "WSPINE"],
    },
    "other": {
        "title": "Other body part",
        "body_part_examined": "",
        "snomed_ct": "",
        "header_terms": [
            "ANKLE",
            "ARM",
            "CALCANEUS",
            "CLAVICLE",
            "ELBOW",
            "EXTREMITY",
            "FEMUR",
            "FINGER",
            "FOOT",
            "FOREARM",
            "HAND",
            "HEAD",
            "HIP",
            "HUMERUS",
            "JAW",
            "KNEE",
            "LEG",
            "LOWER LEG",
            "MANDIBLE",
            "MAXILLA",
            "PATELLA",
            "PELVIS",
            "SCAPULA",
            "SHOULDER",
            "SINUS",
            "SKULL",
            "TEETH",
            "THUMB",
            "TIBIA",
            "TOE",
            "WRIST",
        ],
    },
}
