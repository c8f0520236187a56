"""Variants of a model in fp16 for GPUs and int8 for CPUs, each compared with fp32 and calibrated separately."""

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
"""Smallest share of the images of dev for which a variant must predict the class of fp32."""
CORRECTION_IMAGES = 1000
"""Images for the correction of the linear layers of int8."""
NARROWEST = 300
"""Images with the smallest difference between their two highest logits; these are most likely to change their class."""
COMPARED_IMAGES = 32
"""Images for the comparison with PyTorch."""


@dataclass(frozen=True)
class Measured:
    """Measurements of one variant.

    source: digest of the checkpoint, the same in all variants. agreement:
    share of the images with the class of fp32. images: their number.
    largest_difference: between its logits and PyTorch's. temperature:
    for which its probabilities are closest to those of fp32.
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
    """Write variants beside an exported fp32 model; the measurements of all variants, including rejected ones.

    model: what `train.export.onnx_file.export` wrote from this checkpoint.
    images: all of dev, (rows, columns) each.

    Variants of an earlier export are removed. A variant with an agreement
    below LEAST_AGREEMENT is not written.
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
    log.info(f"classifying {len(images)} images in fp32 for the comparison")
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
                f"images and {LEAST_AGREEMENT:.1%} are needed; the worker uses fp32 instead"
            )
        found.append(measured)
    return found


def match_temperature(logits: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature for which these logits have the smallest cross-entropy to the given probabilities.

    Both (n, classes). There are no out-of-source predictions of a variant
    for its calibration; the calibrated probabilities of fp32 replace them.
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
    """Measure candidates and write the first that is good enough; the measurements of it, or of the last candidate."""
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
    """The model in fp16, with float32 input and output and an fp32 last layer (fp16 rounds large logits to 1/64)."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copied = onnx.ModelProto()
    copied.CopyFrom(plain)
    last = [node.name for node in plain.graph.node if node.op_type == "Gemm"][-1:]
    halved = convert_float_to_float16(copied, keep_io_types=True, node_block_list=last)
    # The converter keeps outdated types, and puts the cast of the input after the nodes that read it.
    del halved.graph.value_info[:]
    yield in_order(halved)


def _quantised(plain: Any, reference: Classifier, images: Sequence[np.ndarray], expected: np.ndarray) -> Iterator[Any]:
    """int8 networks with increasing numbers of layers in fp32.

    A network is skipped if the NARROWEST images alone show too many changes, unless it is the last.
    """
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
