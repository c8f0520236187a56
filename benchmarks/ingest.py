"""How much does the router slow Orthanc's ingest?

Uploads by 4 clients over REST to three Orthancs, in turn, several rounds: bare,
with the plugin and no worker, with the plugin and one worker on the same
cores. Prints the medians of the paired ratios and writes a CSV named after
the environment.

    make bench
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import generate_uid

from tests.helpers import read, to_bytes
from worker.archive import Archive
from worker.settings import Settings
from worker.stack.stack import Layout, Stack

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


def make_files(number: int) -> list[bytes]:
    """Real X-rays (RG3, 207 KB) under identities of their own."""
    dataset = read("RG3_J2KI.dcm")
    files = []
    for _ in range(number):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
        files.append(to_bytes(dataset))
    return files


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


def settle(stack: Stack) -> None:
    """Wait until the worker has nothing left to do, so that rounds do not overlap."""
    with_workers = bool(stack.workers)
    archive = Archive(Settings(orthanc_url=stack.url))
    while with_workers and next(archive.without_verdict(("CR",)), None) is not None:
        time.sleep(0.2)
    archive.close()


def main() -> None:
    """Measure, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--files", type=int, default=200, help="uploads in each round")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {one.name: [] for one in SETTINGS}
    with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        stacks: dict[str, Stack] = {}
        try:
            for number, one in enumerate(SETTINGS):
                layout = Layout(Path(folder) / str(number), one.workers, with_plugin=one.with_plugin)
                stacks[one.name] = Stack(layout)
                stacks[one.name].start()
            for index in range(options.rounds + 1):
                order = SETTINGS if index % 2 else SETTINGS[::-1]
                for one in order:
                    rate = measure(stacks[one.name], make_files(options.files))
                    settle(stacks[one.name])
                    if index:  # the first round warms up
                        rates[one.name].append(rate)
        finally:
            for stack in stacks.values():
                stack.stop()
    report(rates, options.out)


def report(rates: dict[str, list[float]], out: Path) -> None:
    """Print the table and write all rounds."""
    base = rates[SETTINGS[0].name]
    print(f"| set-up | uploads/s (median of {len(base)}) | ratio to bare (median of pairs) | least and largest ratio |")
    print("| --- | --- | --- | --- |")
    for name, values in rates.items():
        ratios = [value / other for value, other in zip(values, base)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"| {name} | {statistics.median(values):.0f} | {statistics.median(ratios):.3f} | {spread} |")
    out.mkdir(parents=True, exist_ok=True)
    environment = (
        f"{platform.system().lower()}-{platform.machine()}-{os.cpu_count()}cores-python{platform.python_version()}"
    )
    with (out / f"ingest-{environment}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["round", *rates])
        writer.writerows([index + 1, *(f"{one:.2f}" for one in row)] for index, row in enumerate(zip(*rates.values())))


if __name__ == "__main__":
    main()
