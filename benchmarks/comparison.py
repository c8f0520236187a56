"""What benchmarks that compare set-ups in turn share: options, a folder in memory, the table and the CSV."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.results_file import RESULTS, write

T = TypeVar("T")


@dataclass(frozen=True)
class Comparison:
    """A question and how its answer is printed.

    name: of the CSV. unit: of a rate. setups: names of what is compared; the first is what the others are compared
    with. rounds, files: defaults of the options. least_files: with fewer files in a round there is nothing to
    measure, because of `reason`. cores: that this process must be allowed to use.
    """

    name: str
    question: str
    unit: str
    setups: tuple[str, ...]
    rounds: int
    files: int
    least_files: int = 1
    reason: str = "a round without files measures nothing"
    cores: int = 1

    def read_options(self) -> argparse.Namespace:
        """The options rounds, files and out (folder of the CSV). Ends the program, exit 2, where too few are given."""
        parser = argparse.ArgumentParser(description=self.question)
        parser.add_argument("--rounds", type=int, default=self.rounds)
        parser.add_argument("--files", type=int, default=self.files, help="images in each round")
        parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the CSV")
        options = parser.parse_args()
        if options.rounds < 1:
            parser.error(f"--rounds is {options.rounds}; at least 1 is needed")
        if options.files < self.least_files:
            parser.error(f"--files is {options.files}; at least {self.least_files} are needed: {self.reason}")
        cores = len(os.sched_getaffinity(0))
        if cores < self.cores:
            parser.error(f"this process may use {cores} cores; at least {self.cores} are needed")
        return options

    def report(
        self, options: argparse.Namespace, measured: Iterable[tuple[str, Mapping[str, Sequence[float]]]]
    ) -> None:
        """Print a row for each set-up of each kind of images as soon as it is measured, and write the CSV.

        measured: the kind of images, and by set-up the rate in each round, paired.
        """
        base = self.setups[0]
        print(
            f"| images | set-up | {self.unit} (median of {options.rounds}) | ratio to {base} (median of pairs) "
            "| all ratios |"
        )
        print("| --- | --- | --- | --- | --- |")
        rows = [["images", "round", *self.setups]]
        for images, rates in measured:
            for setup in self.setups:
                ratios = [rate / baseline for rate, baseline in zip(rates[setup], rates[base])]
                print(
                    f"| {images} | {setup} | {statistics.median(rates[setup]):.1f} | {statistics.median(ratios):.3f} | "
                    f"{min(ratios):.2f} to {max(ratios):.2f} |",
                    flush=True,
                )
            for index in range(options.rounds):
                rows.append([images, str(index + 1), *(f"{rates[setup][index]:.2f}" for setup in self.setups)])
        write(options.out, self.name, rows)


def in_turn(setups: Sequence[T], index: int) -> Sequence[T]:
    """The set-ups in the order of round `index`: every other round backwards."""
    return setups if index % 2 else setups[::-1]


@contextmanager
def fast_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder, in memory where that is possible: a disk's speed varies more than what is measured."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix=prefix, dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)
