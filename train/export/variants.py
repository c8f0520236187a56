"""The same model in fp16 for GPUs and in int8 for CPUs, each checked against fp32 and calibrated by itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.export.onnx_file import digest, in_order, largest_difference, save_checked, to_onnx
from train.export.quantise import BATCH, CALIBRATION_IMAGES, FLOAT_DEPTHS, correct_linear_layers, quantise, run
from train.fit.calibrate import fit_temperature
from train.networks.checkpoint import Checkpoint, load
from worker.errors import ConfigError
from worker.inference.card import read_card
from worker.inference.classifier import Classifier, softmax
from worker.inference.variants import variant_path
from worker.settings import Precision

log = logging.getLogger(__name__)

LEAST_AGREEMENT = 0.998
"""Share of the images of dev to which a variant must give the class that fp32 gives."""
CORRECTION_IMAGES = 1000
"""From which the linear layers of int8 are corrected."""
NARROWEST = 300
"""Images with the least between their two likeliest classes: only these can change their class."""
COMPARED_IMAGES = 32
"""With PyTorch."""


@dataclass(frozen=True)
class Measured:
    """What was found of one variant.

    source: digest of the checkpoint, the same in all variants. agreement:
    share of the images that get fp32's class. images: how many.
    largest_difference: between its logits and PyTorch's. temperature:
    with which its probabilities come nearest to fp32's.
    """

    precision: Precision
    source: str
    agreement: float
    images: int
    largest_difference: float
    temperature: float

    @property
    def good(self) -> bool:
        return self.agreement >= LEAST_AGREEMENT


def add_variants(
    checkpoint: Path,
    model: Path,
    images: Sequence[np.ndarray],
    precisions: Sequence[Precision],
) -> list[Measured]:
    """Write variants beside an exported fp32 model; what was measured, also of those that were refused.

    model: what `train.export.onnx_file.export` wrote from this checkpoint.
    images: all of dev, (rows, columns) each.

    Variants of an earlier export are removed. One that agrees too seldom
    with fp32 is not written.
    Raises ConfigError where model and checkpoint do not belong together.
    """
    saved, reference = load(checkpoint), Classifier(model, "cpu", 2)
    for precision in ("fp16", "int8"):
        variant_path(model, precision).unlink(missing_ok=True)
    if not precisions:
        return []
    if reference.card.source != digest(checkpoint):
        raise ConfigError(
            f"{model}: it was not exported from {checkpoint}",
            "export it again",
        )
    log.info(f"judging {len(images)} images in fp32, to compare with")
    expected = _logits(reference, images)
    plain = to_onnx(saved.model, saved.recipe["size"])
    found = []
    for precision in precisions:
        candidates = _halved(plain) if precision == "fp16" else _quantised(plain, reference, images, expected)
        measured = _first_good(candidates, precision, saved, model, images, expected)
        path = variant_path(model, precision)
        if measured.good:
            log.info(
                f"{path}: {path.stat().st_size / 1e6:.1f} MB, fp32's class for {measured.agreement:.2%} of "
                f"{measured.images} images, largest difference to PyTorch {measured.largest_difference:.2g}"
            )
        else:
            log.warning(
                f"{path}: not written, since it gives fp32's class to {measured.agreement:.2%} of {measured.images} "
                f"images and {LEAST_AGREEMENT:.1%} are wanted; the worker runs fp32 in its place."
            )
        found.append(measured)
    return found


def match_temperature(logits: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature with which these logits come nearest, by cross-entropy, to the given probabilities.

    Both (n, classes). A variant has no out-of-source predictions of its own
    from which to take one; fp32's calibrated probabilities stand for them.
    """
    n, classes = probabilities.shape
    labels = np.tile(np.arange(classes), n)
    return fit_temperature(np.repeat(logits, classes, axis=0), labels, probabilities.ravel())


def _first_good(
    candidates: Iterator[Any],
    precision: Precision,
    saved: Checkpoint,
    model: Path,
    images: Sequence[np.ndarray],
    expected: np.ndarray,
) -> Measured:
    """Write and measure candidates until one is good enough; the last one's measures where none is."""
    import onnx

    path, card = variant_path(model, precision), Classifier(model, "cpu").card
    properties = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    calibration = json.loads(properties["calibration"])
    part = path.with_suffix(".part.onnx")
    try:
        for network in candidates:
            onnx.helper.set_model_props(network, properties)
            save_checked(network, part)
            logits = _logits(Classifier(part, "cpu", 2), images)
            measured = Measured(
                precision,
                card.source,
                round(float((logits.argmax(1) == expected.argmax(1)).mean()), 5),
                len(images),
                round(largest_difference(saved, part, images[:: max(1, len(images) // COMPARED_IMAGES)]), 4),
                match_temperature(logits, softmax(expected, card.temperature)),
            )
            if measured.good:
                own = {
                    **properties,
                    "variant": json.dumps(asdict(measured)),
                    "calibration": json.dumps({**calibration, "temperature": measured.temperature}),
                }
                onnx.helper.set_model_props(network, own)
                save_checked(network, part)
                read_card(own, part)
                part.replace(path)
                break
    finally:
        part.unlink(missing_ok=True)
    return measured


def _halved(plain: Any) -> Iterator[Any]:
    """fp16 inside, float32 in and out. The last layer stays fp32: large logits would be rounded to 1/64."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copied = onnx.ModelProto()
    copied.CopyFrom(plain)
    last = [node.name for node in plain.graph.node if node.op_type == "Gemm"][-1:]
    halved = convert_float_to_float16(copied, keep_io_types=True, node_block_list=last)
    # The converter leaves types of before in it, and puts the cast of the input behind the nodes that read it.
    del halved.graph.value_info[:]
    yield in_order(halved)


def _quantised(plain: Any, reference: Classifier, images: Sequence[np.ndarray], expected: np.ndarray) -> Iterator[Any]:
    """int8 networks with more and more layers in fp32; passed over where a few images already tell enough."""
    random = np.random.default_rng(0)
    chosen = random.permutation(len(images))[:CORRECTION_IMAGES]
    learned = list(_batches(reference, [images[i] for i in chosen]))
    ordered = np.sort(expected, axis=1)
    narrow = np.argsort(ordered[:, -1] - ordered[:, -2])[:NARROWEST]
    for depth in FLOAT_DEPTHS:
        network = quantise(plain, learned[: CALIBRATION_IMAGES // BATCH], depth)
        correct_linear_layers(network, plain, learned)
        logits = run(network, _batches(reference, [images[i] for i in narrow]))
        changed = int((logits.argmax(1) != expected[narrow].argmax(1)).sum())
        if 1 - changed / len(images) >= LEAST_AGREEMENT or depth == FLOAT_DEPTHS[-1]:
            yield network


def _batches(classifier: Classifier, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    for start in range(0, len(images), BATCH):
        yield np.stack([classifier.prepare(image) for image in images[start : start + BATCH]])


def _logits(classifier: Classifier, images: Sequence[np.ndarray]) -> np.ndarray:
    """(n, classes) float64."""
    return np.concatenate([classifier.logits(batch) for batch in _batches(classifier, images)])
