"""How much more do two workers of one core each do than one?

X-rays wait in the queue of one stack; one worker, then two, take them, in turn,
several rounds. Orthanc and Redis run on the same cores. Prints the paired
ratios and writes a CSV named after the environment.

    python -m benchmarks.scaling
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.comparison import Comparison, fast_folder, in_turn
from benchmarks.images import SIZES, delete_all, make_files
from orthanc_plugin.settings import Settings as PluginSettings
from worker.ledger import Ledger
from worker.local.stack import Layout, Stack
from worker.orthanc_client import Archive
from worker.settings import Settings

WORKERS = {"1 worker": 1, "2 workers": 2}
CHUNK = PluginSettings().chunk_size
SETTLED = 64
"""Images at the start and at the end of a round that do not count: workers load their model, and end apart."""

COMPARISON = Comparison(
    "scaling",
    "How much more do two workers of one core each do than one?",
    unit="images/s",
    setups=tuple(WORKERS),
    rounds=5,
    files=256,
    # The count rises by a chunk a worker at once: it may pass SETTLED by that much, and must not have reached the end.
    least_files=2 * SETTLED + CHUNK * max(WORKERS.values()),
    reason=f"the first and the last {SETTLED} do not count, and each worker must judge a chunk of {CHUNK} between them",
    cores=max(WORKERS.values()),
)


def throughput(stack: Stack, files: list[bytes], workers: int) -> float:
    """Images a second that these workers judge and record while work is waiting."""
    with Archive(Settings(orthanc_url=stack.url)) as archive:
        ledger = Ledger(stack.redis_url, archive.identifier())
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(archive.upload, files))
        while sum(ledger.queue_lengths().values()) < len(files) // CHUNK:
            time.sleep(0.1)
        before = _judged(ledger)
        names = [_launch_on(stack, core) for core in sorted(os.sched_getaffinity(0))[:workers]]
        first = _reached(ledger, before + SETTLED)
        last = _reached(ledger, before + len(files) - SETTLED)
        while archive.count_without_verdict(["CR"]):
            time.sleep(0.2)
    for name in names:
        stack.stop_worker(name)
    delete_all(stack)
    return (last[0] - first[0]) / (last[1] - first[1])


def _launch_on(stack: Stack, core: int) -> str:
    """Start a worker that has one core, as a container with `cpus: 1` has; its threads would use more."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # which its processes inherit
    try:
        return stack.launch_worker()
    finally:
        os.sched_setaffinity(0, ours)


def _judged(ledger: Ledger) -> int:
    return sum(ledger.inferences().values())


def _reached(ledger: Ledger, wanted: int) -> tuple[int, float]:
    """How many were judged, and when, as soon as there are this many."""
    while (judged := _judged(ledger)) < wanted:
        time.sleep(0.02)
    return judged, time.perf_counter()


def measure(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Images a second by number of workers, one value a round, for each size of images."""
    with fast_folder("scaling-") as folder:
        layout = Layout(folder, workers=0, concurrency=1, environment={"DICOM_ROUTER_CORES": "1"})
        with Stack(layout) as stack:
            for size, make in SIZES.items():
                rates: dict[str, list[float]] = {name: [] for name in WORKERS}
                for index in range(options.rounds):
                    for name in in_turn(list(WORKERS), index):
                        rates[name].append(throughput(stack, make_files(make, options.files), WORKERS[name]))
                yield size, rates


def main() -> None:
    """Measure, print the table, write the CSV."""
    options = COMPARISON.read_options()
    COMPARISON.report(options, measure(options))


if __name__ == "__main__":
    main()
