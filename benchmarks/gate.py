"""How many pictures that are no X-rays does the gate refuse, and how many X-rays does it lose?

Pictures of each kind of tests/not_xrays.py are measured by the gate and judged by the packaged model.
`answered` counts those that pass the gate and get a node of the tree, or chest (adult and child
together) with at least 0.95. With --xrays, the development images of a manifest are counted too.
Prints the table and writes a CSV named after the environment.

    python -m benchmarks.gate --xrays FOLDER
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.results_file import RESULTS, write
from tests.not_xrays import CHOOSING, TESTING, pictures
from worker.inference.classifier import Classifier
from worker.pixels import read_file
from worker.verdict.decide import HeaderFacts, decide
from worker.verdict.gate import looks_like_an_x_ray

CHEST = 0.95
"""Probability of both chests together that counts as an answer: flat model files have no node for it."""


def is_answered(pixels: np.ndarray, classifier: Classifier, strange: bool) -> bool:
    """Whether a node is answered for these pixels."""
    row = classifier.probabilities(classifier.prepare(pixels)[None])[0]
    chests = sum(p for p, name in zip(row, classifier.card.tree.outputs) if name.endswith("_chest"))
    verdict = decide(row, HeaderFacts(), classifier.card, strange=strange)
    return bool(verdict.path) or (not strange and chests >= CHEST)


def main() -> None:
    """Measure, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description="What does the gate refuse?")
    parser.add_argument("--xrays", type=Path, help="folder with manifest.csv (columns file and split) and its images")
    parser.add_argument("--number", type=int, default=20, help="pictures of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    classifier = Classifier(device="cpu")
    rows = [["set", "kind", "pictures", "gated", "answered"]]
    for name, kinds in (("choosing", CHOOSING), ("testing", TESTING)):
        for kind in kinds:
            gated = answered = 0
            for pixels in pictures(kinds, kind, options.number):
                strange = not looks_like_an_x_ray(pixels)
                gated += strange
                answered += is_answered(pixels, classifier, strange)
            rows.append([name, kind, str(options.number), str(gated), str(answered)])
    if options.xrays is not None:
        with (options.xrays / "manifest.csv").open(newline="") as file:
            files = [row["file"] for row in csv.DictReader(file) if row["split"] == "dev"]
        lost, times = 0, []
        for path in files:
            pixels = read_file(options.xrays / path).pixels
            start = time.perf_counter()
            lost += not looks_like_an_x_ray(pixels)
            times.append(time.perf_counter() - start)
        rows.append(["X-rays", "development images", str(len(files)), str(lost), ""])
        print(f"the gate takes {statistics.median(times) * 1000:.2f} ms an image (median)\n")
    print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for row in rows[1:]:
        print("| " + " | ".join(row) + " |")
    write(options.out, "gate", rows)


if __name__ == "__main__":
    main()
