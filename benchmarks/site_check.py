"""What does a site's own check gain at a hospital that the model has never seen?

Images of known age of one hospital (a data set of a manifest) are judged by the packaged model, in this process.
The shift is fitted on --sample of them, drawn by --seed; the others are judged by pixels alone, without and with that
shift, and with the header's age. `right`: share whose likeliest leaf (with the header's age: whose answer) is the
group of the known age; `answered`: share that gets an adult or a child; intervals: 95% by Wilson.
Prints the table and writes a CSV named after the environment.

    python -m benchmarks.site_check --xrays FOLDER
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

import numpy as np

from benchmarks.results_file import RESULTS, write
from worker.inference.classifier import Classifier
from worker.pixels import read_file
from worker.verdict.decide import HeaderFacts, Policy, Shift, decide
from worker.verdict.gate import looks_like_an_x_ray
from worker.verdict.site_check import fit_shift, groups_of, observe, wilson

Image = tuple[np.ndarray, float, bool]
"""(leaves,) probabilities, age in years, whether the gate refuses it."""


def share(right: int, number: int) -> list[str]:
    """A share with its interval, as cells of the table."""
    low, high = wilson(right, number)
    return [str(right), f"{right / max(number, 1):.3f}", f"{low:.3f} to {high:.3f}"]


def measure(name: str, images: list[Image], classifier: Classifier, policy: Policy, adults: bool | None) -> list[str]:
    """A row of the table for images of both groups (adults: None) or of one."""
    tree = classifier.card.tree
    groups = groups_of(tree)
    assert groups is not None
    number = right = answered = answered_right = 0
    for leaves, age, strange in images:
        is_adult = age >= 18
        if adults is not None and adults is not is_adult:
            continue
        number += 1
        verdict = decide(leaves, HeaderFacts(age=age), classifier.card, policy, strange)
        truth = groups.older.name if is_adult else groups.younger[0].name
        likeliest = max(verdict.probabilities, key=lambda leaf: verdict.probabilities[leaf])
        is_answered = verdict.outcome == "judged"
        answered += is_answered
        answered_right += is_answered and verdict.body_part == truth
        right += (verdict.body_part if verdict.decided_by == "age" else likeliest) == truth
    of = {None: "all", True: "adults", False: "children"}[adults]
    return [name, of, str(number), *share(right, number), str(answered), *share(answered_right, answered)]


def main() -> None:
    """Measure, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description="What does a site's own check gain?")
    parser.add_argument("--xrays", type=Path, required=True, help="folder with manifest.csv and its images")
    parser.add_argument("--dataset", default="Shenzhen", help="beginning of the manifest's column dataset")
    parser.add_argument("--sample", type=int, default=200, help="images for the check")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    classifier = Classifier(device="cpu")
    groups = groups_of(classifier.card.tree)
    if groups is None:
        parser.error("the packaged model does not distinguish age groups")
    images: list[Image] = []
    with (options.xrays / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["dataset"].startswith(options.dataset) and row["age"]:
                age = float(row["age"])
                if age < 16 or age >= 18:
                    pixels = read_file(options.xrays / row["file"]).pixels
                    leaves = classifier.probabilities(classifier.prepare(pixels)[None])[0]
                    images.append((leaves, age, not looks_like_an_x_ray(pixels)))
    if len(images) <= options.sample:
        parser.error(f"--sample is {options.sample}; {len(images)} images of known age leave none to judge")
    random.Random(options.seed).shuffle(images)
    checked, others = images[: options.sample], images[options.sample :]
    seen = [observe(leaves, age, "", classifier.card.tree, groups) for leaves, age, strange in checked if not strange]
    fit = fit_shift([each for each in seen if each is not None])
    low, high = fit.interval
    print(f"shift of {groups.older.name}: {fit.log_odds:+.2f} (95%: {low:+.2f} to {high:+.2f})\n")
    shift = Shift(groups.older.name, fit.log_odds, "benchmark")
    rows = [["judged by", "images of", "number", "right", "share", "95%", "answered", "right of these", "share", "95%"]]
    for name, policy in (
        ("pixels", Policy(use_age=False)),
        (f"pixels, shift {fit.log_odds:+.2f}", Policy(use_age=False, shift=shift)),
        ("pixels and the header's age", Policy(use_age=True)),
    ):
        rows += [measure(name, others, classifier, policy, adults) for adults in (None, True, False)]
    print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for row in rows[1:]:
        print("| " + " | ".join(row) + " |")
    write(options.out, "site-check", rows)


if __name__ == "__main__":
    main()
