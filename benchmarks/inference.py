"""How many images a second does one CPU core judge?

The networks of the paper's recipes at 512 x 512 with three channels, by
PyTorch eager, ONNX Runtime fp32 and int8 (random weights: the speed doesn't
depend on them), and the packaged model's files at its own size. One thread,
batches of 1 and 8. Each is measured in turn with MobileNet-V1 at 512 in
PyTorch eager, the paper's best, and compared with it round by round. Only
the network's time counts, not decoding. Prints the medians and writes a CSV
named after the environment.

    python -m benchmarks.inference
    python -m benchmarks.inference --only packaged --rounds 9
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from benchmarks.results_file import RESULTS, write
from train.export.onnx_file import to_onnx
from train.export.quantise import quantise
from train.fit.recipe import PAPER_RECIPES
from train.networks.timm_names import TIMM_NAMES
from worker.inference.classifier import PACKAGED_MODEL, Classifier
from worker.inference.variants import variant_path

SIZE = 512
CLASSES = 5
RECIPES = {name: TIMM_NAMES[name] for name in PAPER_RECIPES}
"""The paper's networks and their names in timm."""
BASE = "mobilenetv1"
PACKAGED = "packaged"
SECONDS = 0.5
"""Least time of one measurement: shorter ones are repeated."""

Run = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Contender:
    """One network in one runtime. shape: of one input image."""

    model: str
    runtime: str
    shape: tuple[int, int, int]
    run: Run


def network(recipe: str) -> torch.nn.Module:
    """With random weights, and statistics of random images, so that no layer's output vanishes."""
    torch.manual_seed(0)
    model = timm.create_model(RECIPES[recipe], num_classes=CLASSES)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 128, 128))
    return model.eval()


def eager(model: torch.nn.Module) -> Run:
    """As the paper runs it."""

    def run(batch: np.ndarray) -> object:
        with torch.inference_mode():
            return model(torch.from_numpy(batch)).numpy()

    return run


def session(model: Any) -> Run:
    """A ModelProto in ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    opened = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = opened.get_inputs()[0].name
    return lambda batch: opened.run(None, {name: batch})


def contenders(name: str, packaged: Path) -> Iterator[Contender]:
    """All runtimes of one recipe, or all files of the packaged model that a CPU runs."""
    if name == PACKAGED:
        for precision in ("fp32", "int8"):
            path = variant_path(packaged, precision)
            if path.is_file():
                classifier = Classifier(path, "cpu", 1)
                size = classifier.card.size
                yield Contender(classifier.card.name, f"ONNX {precision}", (1, size, size), classifier.logits)
        return
    shape = (3, SIZE, SIZE)
    model = network(name)
    yield Contender(name, "PyTorch eager", shape, eager(model))
    plain = to_onnx(model, SIZE, channels=3)
    yield Contender(name, "ONNX fp32", shape, session(plain))
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    yield Contender(name, "ONNX int8", shape, session(quantise(plain, [images], float_depth=1)))


def rate(contender: Contender, batch: int) -> float:
    """Images a second."""
    images = np.random.default_rng(1).normal(size=(batch, *contender.shape)).astype(np.float32)
    done, start = 0, time.perf_counter()
    while not done or time.perf_counter() - start < SECONDS:
        contender.run(images)
        done += batch
    return done / (time.perf_counter() - start)


def main() -> None:
    """Measure, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description="How many images a second does one CPU core judge?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[PACKAGED, *RECIPES], default=[PACKAGED, *RECIPES])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL, help="in place of the packaged model")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the exporter and the quantiser, about themselves
    torch.set_num_threads(1)
    base = Contender(BASE, "PyTorch eager", (3, SIZE, SIZE), eager(network(BASE)))
    rows = [["model", "runtime", "input", "batch", "round", "images_per_second", "base_images_per_second"]]
    print(f"| model | runtime | input | batch | images/s (median of {options.rounds}) | ratio to {BASE} eager | all |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.only:
        measured = list(contenders(name, options.model))
        for batch in options.batch:
            rates = compare([base, *measured], options.rounds, batch)
            for contender, values in zip(measured, rates[1:]):
                size = "x".join(map(str, contender.shape))
                ratios = [value / baseline for value, baseline in zip(values, rates[0])]
                print(
                    f"| {contender.model} | {contender.runtime} | {size} | {batch} | {statistics.median(values):.1f} | "
                    f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |",
                    flush=True,
                )
                rows += [
                    [
                        contender.model,
                        contender.runtime,
                        size,
                        str(batch),
                        str(index + 1),
                        f"{value:.2f}",
                        f"{baseline:.2f}",
                    ]
                    for index, (value, baseline) in enumerate(zip(values, rates[0]))
                ]
    write(options.out, "inference", rows)


def compare(measured: list[Contender], rounds: int, batch: int) -> list[list[float]]:
    """Images a second of each, (contenders, rounds), in turn; a first round warms up and does not count."""
    rates: list[list[float]] = [[] for _ in measured]
    for index in range(rounds + 1):
        for which in range(len(measured)) if index % 2 else reversed(range(len(measured))):
            value = rate(measured[which], batch)
            if index:
                rates[which].append(value)
    return rates


if __name__ == "__main__":
    main()
