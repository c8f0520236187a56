"""Patient, study and age from DICOM headers, with pseudonyms in place of identifiers."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

TAGS = ["PatientID", "StudyInstanceUID", "PatientAge", "Modality"]

OLDEST = 90
"""Years; higher ages are cut to this, since they can identify a person (45 CFR 164.514(b), HIPAA)."""
MOST_STUDIES = 20
"""Studies of one Patient ID, above which it may be a placeholder."""


@dataclass(frozen=True)
class Header:
    """patient_id, study: unchanged identifiers, which must not be written to a file. age: years, or nan."""

    patient_id: str = ""
    study: str = ""
    age: float = float("nan")
    modality: str = ""


def header_of(dataset: Dataset) -> Header:
    """The fields of Header from a DICOM data set; missing or broken values are empty."""

    def text(keyword: str) -> str:
        try:
            value = dataset.get(keyword)
        except Exception:  # pydicom converts lazily and raises on a broken value
            return ""
        return "" if value is None else str(value).strip()

    return Header(text("PatientID"), text("StudyInstanceUID"), age_in_years(text("PatientAge")), text("Modality"))


def age_in_years(text: str) -> float:
    """(0010,1010) Patient's Age, such as 045Y, 006M, 003W, 010D (PS3.5 6.2, AS), in years; nan where it is none."""
    found = re.fullmatch(r"(\d{1,3})([YMWD])", text)
    if found is None:
        return float("nan")
    return min(OLDEST, round(int(found[1]) / {"Y": 1, "M": 12, "W": 52.18, "D": 365.25}[found[2]], 2))


def salt_of(path: Path) -> bytes:
    """The salt in the file; where there is no file, a new salt, written with mode 0600."""
    if path.is_file():
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    salt = secrets.token_bytes(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(salt.hex())
    return salt


class Pseudonyms:
    """Salted hashes: equal for equal identifiers, and not reversible without the salt.

    salt: a secret; where none is given, a random one, so that the pseudonyms of two runs differ.
    """

    def __init__(self, salt: bytes | None = None) -> None:
        self._salt = salt or secrets.token_bytes(32)

    def of(self, kind: str, identifier: str) -> str:
        """16 hexadecimal digits, "" for no identifier. kind: separates equal identifiers of different kinds."""
        if not identifier:
            return ""
        return hashlib.blake2b(f"{kind}:{identifier}".encode(), key=self._salt, digest_size=8).hexdigest()

    def patients(self, headers: list[Header]) -> list[str]:
        """(n,) pseudonyms of the patients: from Patient ID, or from the study where the ID is missing or a placeholder.

        Anonymised archives may use one Patient ID for all patients. An ID is a placeholder if more
        than MOST_STUDIES studies share it, and these are more than a tenth of all studies.
        """
        studies: dict[str, set[str]] = {}
        for header in headers:
            studies.setdefault(header.patient_id, set()).add(header.study)
        total = len({header.study for header in headers})
        placeholders = {
            patient for patient, seen in studies.items() if len(seen) > MOST_STUDIES and len(seen) > total / 10
        }
        return [
            self.of("study", header.study)
            if not header.patient_id or header.patient_id in placeholders
            else self.of("patient", header.patient_id)
            for header in headers
        ]
