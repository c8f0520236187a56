"""Raw DICOM files of many makers, judged as a worker judges them: read, gate, model, decision."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from worker.errors import BadInput
from worker.inference.classifier import Classifier
from worker.pixels import read_file
from worker.settings import Settings
from worker.verdict.decide import HeaderFacts, decide
from worker.verdict.gate import looks_like_an_x_ray

MODALITIES = ("CR", "DX", "RG", "DR", "")
LIMBS = ("hand", "hip", "leg", "foot", "knee", "shoulder")


def expected_label(body_part: str) -> str | None:
    """The label that a file must carry at least, by the manifest's words; None where nothing is asked."""
    words = body_part.split(",")[0].split()
    if "chest" in words:
        return "bp-chest"
    return "bp-other" if set(words) & set(LIMBS) else None


@pytest.mark.parametrize("use_age", [True, False])
def test_every_human_chest_and_limb_that_decodes_is_answered_at_its_root(shared: Path, use_age: bool) -> None:
    folder = shared / "data/dicom"
    classifier = Classifier.from_settings(Settings())
    found: dict[str, int] = {}
    missed: list[str] = []
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] in MODALITIES]
    for row in rows:
        label = expected_label(row["body part"])
        if label is None:
            continue
        try:
            radiograph = read_file(folder / row["file"])
        except BadInput:
            continue
        [probabilities] = classifier.probabilities(classifier.prepare(radiograph.pixels)[None])
        header = HeaderFacts(radiograph.body_part_examined, radiograph.age if use_age else None)
        strange = not looks_like_an_x_ray(radiograph.pixels)
        verdict = decide(probabilities, header, classifier.card, strange=strange)
        found[label] = found.get(label, 0) + 1
        if label not in verdict.labels("bp-"):
            missed.append(f"{row['file']} ({row['body part']}): {verdict.labels('bp-')}, {verdict.stopped}")
    assert not missed, "\n".join(missed)
    # So that a change of the manifest's words does not empty the test.
    assert found["bp-chest"] >= 14 and found["bp-other"] >= 6
