"""How much does the router slow Orthanc's ingest?

Uploads by 4 clients over REST to three Orthancs, in turn, several rounds: bare,
with the plugin and no worker, with the plugin and one worker on the same
cores. Prints the medians of the paired ratios and writes a CSV named after
the environment.

    make bench
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from pydicom.dataset import FileDataset

from benchmarks.comparison import Comparison, fast_folder, in_turn
from benchmarks.images import SIZES, delete_all, make_files
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

COMPARISON = Comparison(
    "ingest",
    "How much does the router slow Orthanc's ingest?",
    unit="uploads/s",
    setups=tuple(setting.name for setting in SETTINGS),
    rounds=9,
    files=200,
)


def measure(stack: Stack, files: list[bytes]) -> float:
    """Uploads a second."""
    with ExitStack() as connections:
        archives = [connections.enter_context(Archive(Settings(orthanc_url=stack.url))) for _ in range(CLIENTS)]

        def client(number: int) -> None:
            for data in files[number::CLIENTS]:
                archives[number].upload(data)

        start = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(client, range(CLIENTS)))
        return len(files) / (time.perf_counter() - start)


def settle(stack: Stack, uploaded: int) -> None:
    """Wait until nothing is left to do, and delete the images: no round may weigh on the next."""
    with Archive(Settings(orthanc_url=stack.url)) as archive:
        while (status := archive.plugin_status()) is not None and status["published_since_start"] < uploaded:
            time.sleep(0.1)
        while stack.workers and archive.count_without_verdict(["CR"]):
            time.sleep(0.2)
    delete_all(stack)


def compare(make: Callable[[], FileDataset], rounds: int, files: int) -> dict[str, list[float]]:
    """Uploads a second of each set-up in each round, in turn; a first round warms up and does not count."""
    rates: dict[str, list[float]] = {setting.name: [] for setting in SETTINGS}
    with fast_folder("ingest-") as folder:
        stacks = {
            setting.name: Stack(
                Layout(folder / setting.name.replace(" ", "-"), setting.workers, with_plugin=setting.with_plugin)
            )
            for setting in SETTINGS
        }
        try:
            for stack in stacks.values():
                stack.start()
            for index in range(rounds + 1):
                for setting in in_turn(SETTINGS, index):
                    rate = measure(stacks[setting.name], make_files(make, files))
                    settle(stacks[setting.name], files * (index + 1))
                    if index:
                        rates[setting.name].append(rate)
        finally:
            for stack in stacks.values():
                stack.stop()
    return rates


def measure_all(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """The rates of all set-ups, for each size of images."""
    for size, make in SIZES.items():
        yield size, compare(make, options.rounds, options.files)


def main() -> None:
    """Measure, print the table, write the CSV."""
    options = COMPARISON.read_options()
    COMPARISON.report(options, measure_all(options))


if __name__ == "__main__":
    main()
