"""What a DICOM header says of a patient, in a form that tells nobody who that is."""

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
"""Years; above, an age itself can tell who it is (as in HIPAA's list of identifiers)."""
MOST_STUDIES = 20
"""Studies of one Patient ID, above which it may be a placeholder."""


@dataclass(frozen=True)
class Header:
    """patient_id, study: as the file has them, never to be written anywhere. age: years, or nan."""

    patient_id: str = ""
    study: str = ""
    age: float = float("nan")
    modality: str = ""


def header_of(dataset: Dataset) -> Header:
    """What is needed of a data set; whatever is missing or broken is empty."""

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
    """The salt that an earlier run left in a file, or a new one, written there for its owner only."""
    if path.is_file():
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    salt = secrets.token_bytes(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(salt.hex())
    return salt


class Pseudonyms:
    """Salted hashes: equal for equal identifiers, and not to be turned back without the salt.

    salt: a secret; drawn anew where none is given, so that pseudonyms of two runs differ.
    """

    def __init__(self, salt: bytes | None = None) -> None:
        self._salt = salt or secrets.token_bytes(32)

    def of(self, kind: str, identifier: str) -> str:
        """16 hexadecimal digits, "" for no identifier. kind: keeps equal texts of different meaning apart."""
        if not identifier:
            return ""
        return hashlib.blake2b(f"{kind}:{identifier}".encode(), key=self._salt, digest_size=8).hexdigest()

    def patients(self, headers: list[Header]) -> list[str]:
        """One pseudonym a patient: from Patient ID, or from the study where it is missing or stands for nobody.

        Anonymised archives give one Patient ID to everybody: an ID that more
        than MOST_STUDIES studies share, and more than a tenth of all, is no one's.
        """
        studies: dict[str, set[str]] = {}
        for header in headers:
            studies.setdefault(header.patient_id, set()).add(header.study)
        total = len({header.study for header in headers})
        nobody = {patient for patient, seen in studies.items() if len(seen) > MOST_STUDIES and len(seen) > total / 10}
        return [
            self.of("study", header.study)
            if not header.patient_id or header.patient_id in nobody
            else self.of("patient", header.patient_id)
            for header in headers
        ]
