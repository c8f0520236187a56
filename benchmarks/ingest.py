"""How much does the router slow Orthanc's ingest?

Uploads by 4 clients over REST to three Orthancs, in turn, several rounds: bare,
with the plugin and no worker, with the plugin and one worker on the same
cores. Prints the medians of the paired ratios and writes a CSV named after
the environment.

    make bench
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileDataset

from benchmarks.images import SIZES, delete_all, make_files
from benchmarks.results_file import RESULTS, write
from worker.local.stack import Layout, Stack
from worker.orthanc_client import Archive
from worker.settings import Settings

CLIENTS = 4


@dataclass(frozen=True)
class Setting:
    """One of the compared set-ups."""

    name: str
    with_plugin: bool
    workers: int


SETTINGS = (
    Setting("bare Orthanc", False, 0),
    Setting("plugin, no worker", True, 0),
    Setting("plugin and a worker", True, 1),
)


def measure(stack: Stack, files: list[bytes]) -> float:
    """Uploads a second."""
    archives = [Archive(Settings(orthanc_url=stack.url)) for _ in range(CLIENTS)]

    def client(number: int) -> None:
        for data in files[number::CLIENTS]:
            archives[number].upload(data)

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    took = time.perf_counter() - start
    for one in archives:
        one.close()
    return len(files) / took


def settle(stack: Stack, uploaded: int) -> None:
    """Wait until nothing is left to do, and delete the images: no round may weigh on the next."""
    archive = Archive(Settings(orthanc_url=stack.url))
    while (status := archive.plugin_status()) is not None and status["published_since_start"] < uploaded:
        time.sleep(0.1)
    while stack.workers and next(archive.without_verdict(("CR",)), None) is not None:
        time.sleep(0.2)
    delete_all(stack)
    archive.close()


def main() -> None:
    """Measure, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description="How much does the router slow Orthanc's ingest?")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--files", type=int, default=200, help="uploads in each round")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = [["images", "round", *(one.name for one in SETTINGS)]]
    print(
        f"| images | set-up | uploads/s (median of {options.rounds}) | ratio to bare (median of pairs) | all ratios |"
    )
    print("| --- | --- | --- | --- | --- |")
    for size, make in SIZES.items():
        rates = compare(make, options.rounds, options.files)
        base = rates[SETTINGS[0].name]
        for name, values in rates.items():
            ratios = [value / other for value, other in zip(values, base)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(
                f"| {size} | {name} | {statistics.median(values):.0f} | {statistics.median(ratios):.3f} | {spread} |",
                flush=True,
            )
        rows += [[size, str(n + 1), *(f"{one:.2f}" for one in each)] for n, each in enumerate(zip(*rates.values()))]
    write(options.out, "ingest", rows)


def compare(make: Callable[[], FileDataset], rounds: int, files: int) -> dict[str, list[float]]:
    """Uploads a second of each set-up in each round, in turn; a first round warms up and does not count."""
    rates: dict[str, list[float]] = {one.name: [] for one in SETTINGS}
    # In memory where that is possible: a disk's moods are larger than what is measured.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="ingest-", dir=memory if memory.is_dir() else None) as folder:
        stacks = {
            one.name: Stack(Layout(Path(folder) / one.name.replace(" ", "-"), one.workers, with_plugin=one.with_plugin))
            for one in SETTINGS
        }
        try:
            for stack in stacks.values():
                stack.start()
            for index in range(rounds + 1):
                for one in SETTINGS if index % 2 else SETTINGS[::-1]:
                    rate = measure(stacks[one.name], make_files(make, files))
                    settle(stacks[one.name], files * (index + 1))
                    if index:
                        rates[one.name].append(rate)
        finally:
            for stack in stacks.values():
                stack.stop()
    return rates


if __name__ == "__main__":
    main()
