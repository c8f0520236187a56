"""How each class is called: by people, by DICOM, by SNOMED CT, and by headers in the field.

Terms of (0018,0015) Body Part Examined and their codes are those of DICOM
PS3.16 Annex L. `header_terms` are the values that agree with a class; values
that fit several classes of ours, or none for sure, are left out.
"""

from __future__ import annotations

from typing import Any

_CHEST_HEADERS = ["CHEST", "THORAX", "LUNG", "LUNGS", "HEART", "RIB", "RIBS"]

TERMS: dict[str, dict[str, Any]] = {
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
