"""How much more do two workers of one core each do than one?

X-rays wait in the queue of one stack; one worker, then two, take them, in turn,
several rounds. Orthanc and Redis run on the same cores. Prints the paired
ratios and writes a CSV named after the environment.

    python -m benchmarks.scaling
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from benchmarks.images import SIZES, delete_all, make_files
from benchmarks.results_file import RESULTS, write
from worker.ledger import Ledger
from worker.local.stack import Layout, Stack
from worker.orthanc_client import Archive
from worker.settings import Settings

WORKERS = (1, 2)
SETTLED = 64
"""Images at the start and at the end of a round that do not count: workers load their model, and end apart."""


def throughput(stack: Stack, files: list[bytes], workers: int) -> float:
    """Images a second that these workers judge and record while work is waiting."""
    with closing(Archive(Settings(orthanc_url=stack.url))) as archive:
        ledger = Ledger(stack.redis_url, archive.identifier())
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(archive.upload, files))
        while sum(ledger.queue_lengths().values()) < len(files) // 32:
            time.sleep(0.1)
        before = _judged(ledger)
        names = [_launch_on(stack, core) for core in sorted(os.sched_getaffinity(0))[:workers]]
        first = _reached(ledger, before + SETTLED)
        last = _reached(ledger, before + len(files) - SETTLED)
        while next(archive.without_verdict(("CR",)), None) is not None:
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


def main() -> None:
    """Measure, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description="How much more do two workers of one core each do than one?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=256, help="images in each round")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < max(WORKERS):
        parser.error(f"needs {max(WORKERS)} cores, one for each worker.")
    rows = [["images", "round", *(f"{number} workers" for number in WORKERS)]]
    print(f"| images | workers | images/s (median of {options.rounds}) | ratio to one (median of pairs) | all ratios |")
    print("| --- | --- | --- | --- | --- |")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=memory if memory.is_dir() else None) as folder:
        layout = Layout(Path(folder), workers=0, concurrency=1, environment={"DICOM_ROUTER_CORES": "1"})
        with Stack(layout) as stack:
            for size, make in SIZES.items():
                rates: dict[int, list[float]] = {number: [] for number in WORKERS}
                for turn in range(options.rounds):
                    for number in WORKERS if turn % 2 else WORKERS[::-1]:
                        rates[number].append(throughput(stack, make_files(make, options.files), number))
                for number, values in rates.items():
                    ratios = [value / one for value, one in zip(values, rates[WORKERS[0]])]
                    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                    print(
                        f"| {size} | {number} | {statistics.median(values):.1f} | {statistics.median(ratios):.2f} | "
                        f"{spread} |",
                        flush=True,
                    )
                rows += [
                    [size, str(n + 1), *(f"{one:.2f}" for one in each)] for n, each in enumerate(zip(*rates.values()))
                ]
    write(options.out, "scaling", rows)


if __name__ == "__main__":
    main()
