"""The model file and the ONNX Runtime session that runs it."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.contract import RESERVED_CLASSES, is_label
from worker.errors import AcceleratorMissing, BadModelFile, ModelError
from worker.inference.prepare import PREPARATIONS
from worker.inference.variants import pick
from worker.settings import Wanted

if TYPE_CHECKING:
    import onnxruntime

    from worker.settings import Settings

log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
PROBE_SECONDS = 120

PACKAGED_MODEL = Path(__file__).parents[1] / "models" / "body_parts.onnx"

PROPERTIES = ("name", "version", "licence", "classes", "input", "calibration", "training_data", "metrics")
"""Metadata properties without which a model is refused; all but the first three are JSON."""

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)
"""On a GPU batches are padded to one of these, so that its memory arena stops growing."""


@dataclass(frozen=True)
class BodyPart:
    """One class of a model.

    name: what labels and metadata carry.
    threshold: least calibrated probability for an answer; below it, review.
    header_terms: values of (0018,0015) Body Part Examined that agree with this class.
    """

    name: str
    title: str
    body_part_examined: str
    snomed_ct: str
    threshold: float
    header_terms: frozenset[str]


@dataclass(frozen=True)
class ModelCard:
    """What a model file says of itself.

    sha256: of the file, hexadecimal. size: side of the square input in
    pixels. preparation: a key of worker.inference.prepare.PREPARATIONS. mean, std:
    applied to prepared pixels (0..1). temperature: divides the logits before
    the softmax. precision: fp32, fp16 or int8. source: what all variants of
    one model have in common and no other model has; empty in files that came
    without variants.
    """

    name: str
    version: str
    licence: str
    sha256: str
    classes: tuple[BodyPart, ...]
    size: int
    preparation: str
    mean: float
    std: float
    temperature: float
    training_data: dict[str, Any]
    metrics: dict[str, Any]
    precision: str
    source: str


def read_card(properties: dict[str, str], path: Path) -> ModelCard:
    """Check the metadata properties of a model file.

    Raises BadModelFile naming the missing or wrong key.
    """
    for key in PROPERTIES:
        if key not in properties:
            raise BadModelFile(
                f"{path}: the model has no metadata property '{key}'; export it with dicom-router-train."
            )
    try:
        parsed = {key: json.loads(properties[key]) for key in PROPERTIES[3:]}
        variant = json.loads(properties.get("variant", "{}"))
        given, calibration = parsed["input"], parsed["calibration"]
        if given["preparation"] not in PREPARATIONS:
            raise BadModelFile(
                f"{path}: the model was trained with the preparation {given['preparation']!r}, "
                f"this worker knows {', '.join(PREPARATIONS)}; use a worker and a model of the same version."
            )
        classes = tuple(
            BodyPart(
                name=one["name"],
                title=one["title"],
                body_part_examined=one["body_part_examined"],
                snomed_ct=one["snomed_ct"],
                threshold=float(calibration["thresholds"][one["name"]]),
                header_terms=frozenset(one["header_terms"]),
            )
            for one in parsed["classes"]
        )
        card = ModelCard(
            name=properties["name"],
            version=properties["version"],
            licence=properties["licence"],
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            classes=classes,
            size=int(given["size"]),
            preparation=given["preparation"],
            mean=float(given["mean"]),
            std=float(given["std"]),
            temperature=float(calibration["temperature"]),
            training_data=parsed["training_data"],
            metrics=parsed["metrics"],
            precision=str(variant.get("precision", "fp32")),
            source=str(variant.get("source", "")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadModelFile(f"{path}: a metadata property is malformed ({error!r}); export the model again.") from error
    for one in classes:
        if not is_label("x" * 24 + one.name) or one.name in RESERVED_CLASSES:
            raise BadModelFile(
                f"{path}: {one.name!r} cannot be a class; it must be 1 to 40 of A-Z a-z 0-9 _ - "
                f"and none of {', '.join(sorted(RESERVED_CLASSES))}."
            )
    return card


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(n, classes) -> (n, classes) float64."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


class Classifier:
    """A model in memory. Make it after a fork, never before.

    path: the .onnx file.
    device: `cpu`, `cuda` (raises AcceleratorMissing where no session can be
        made on a GPU) or `auto` (tries CUDA, falls back, logs which).
    threads: cores that one inference may use.
    wanted: which variant of the model to run; without it, the very file at
        `path`. `auto` takes the one fit for the device.

    Raises BadModelFile.
    """

    def __init__(
        self, path: Path = PACKAGED_MODEL, device: str = "auto", threads: int = 1, wanted: Wanted = "fp32"
    ) -> None:
        if not path.is_file():
            raise BadModelFile(f"{path}: no such model file; set DICOM_ROUTER_MODEL to an exported .onnx.")
        self.path, self._session, self.provider = _open_session(path, wanted, device, threads)
        self.card = read_card(_properties(self._session), self.path)
        if self.path != path:
            _check_same_model(self.card, self.path, path)
        self._input = self._session.get_inputs()[0].name
        outputs = self._session.get_outputs()[0].shape[-1]
        if outputs != len(self.card.classes):
            raise BadModelFile(f"{self.path}: the model has {outputs} outputs and {len(self.card.classes)} classes.")

    @classmethod
    def from_settings(cls, settings: Settings, threads: int = 1) -> Classifier:
        """The model that the settings name, in the variant that they ask for."""
        return cls(settings.model or PACKAGED_MODEL, settings.device, threads, settings.precision)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """(rows, columns), bone bright -> (1, size, size) float32, normalised."""
        square = PREPARATIONS[self.card.preparation](pixels, self.card.size)
        return ((square - self.card.mean) / self.card.std)[None].astype(np.float32)

    def logits(self, batch: np.ndarray) -> np.ndarray:
        """(n, 1, size, size) float32 -> (n, classes) float64."""
        n = len(batch)
        if self.provider != "CPUExecutionProvider":
            room = next((b for b in BATCH_BUCKETS if b >= n), n)
            batch = np.concatenate([batch, np.zeros((room - n, *batch.shape[1:]), batch.dtype)]) if room > n else batch
        return np.asarray(self._session.run(None, {self._input: batch})[0], np.float64)[:n]

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        """(n, 1, size, size) float32 -> (n, classes) float64 calibrated probabilities."""
        return softmax(self.logits(batch), self.card.temperature)


def _properties(session: onnxruntime.InferenceSession) -> dict[str, str]:
    return dict(session.get_modelmeta().custom_metadata_map)


def _check_same_model(card: ModelCard, found: Path, path: Path) -> None:
    """Raises BadModelFile where a variant was left behind by another model."""
    import onnxruntime

    options = _options(1)
    # Opened to be read only.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    whole = read_card(_properties(_cpu_session(path, options)), path)
    if not card.source or (card.source, card.name, card.version) != (whole.source, whole.name, whole.version):
        raise BadModelFile(
            f"{found}: it is no variant of {path.name} (this is {card.name} {card.version}, that is "
            f"{whole.name} {whole.version}); export all variants again, remove it, or set DICOM_ROUTER_PRECISION=fp32."
        )


def _open_session(
    path: Path, wanted: Wanted, device: str, threads: int
) -> tuple[Path, onnxruntime.InferenceSession, str]:
    """The variant's file, a session and the execution provider that it really runs on."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # a failed CUDA session is told by us, once
    # The provider is listed where there is no GPU too: only making a session tells.
    if device != "cpu" and _cuda_installed():
        found = pick(path, wanted, gpu=True)
        try:
            if hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls()
            session = onnxruntime.InferenceSession(found, _options(threads), providers=[CUDA])
            if session.get_providers()[0] == CUDA:
                log.info("inference runs on the GPU (%s)", CUDA)
                return found, session, CUDA
        except Exception as error:  # onnxruntime's own kinds, by version
            log.warning("no CUDA session could be made (%s)", type(error).__name__)
    if device == "cuda":
        raise AcceleratorMissing(
            "DICOM_ROUTER_DEVICE is 'cuda' and no CUDA session could be made; install onnxruntime-gpu "
            "and the GPU's driver, or set it to 'auto' or 'cpu'."
        )
    if device == "auto":
        log.warning("inference runs on the CPU: no usable GPU was found")
    found = pick(path, wanted, gpu=False)
    return found, _cpu_session(found, _options(threads)), "CPUExecutionProvider"


def _options(threads: int) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    return options


def _cpu_session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BadModelFile(f"{path}: not a usable ONNX model ({type(error).__name__}); export it again.") from error


def probe_provider(path: Path, device: str, wanted: Wanted = "fp32") -> str:
    """The execution provider that a process here would get for this model.

    A CUDA context made before a fork breaks the children, so where there may
    be one, a process of its own is asked. Raises ModelError, as Classifier does.
    """
    if device == "cpu" or (device == "auto" and not _cuda_installed()):
        return Classifier(path, "cpu", wanted=wanted).provider  # with one thread: none that a fork would lose
    code = (
        "import sys; from pathlib import Path; from worker.inference.classifier import Classifier\n"
        "from worker.errors import RouterError\n"
        "try: print(Classifier(Path(sys.argv[1]), sys.argv[2], wanted=sys.argv[3]).provider)\n"
        "except RouterError as error: sys.exit(str(error))"
    )
    command = [sys.executable, "-c", code, str(path), device, wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"no session could be made within {PROBE_SECONDS} s; look at the GPU and its driver."
        ) from error
    if done.returncode != 0 or not done.stdout.strip():
        raise ModelError((done.stderr.strip().splitlines() or ["the runtime ended without a word"])[-1])
    return done.stdout.strip().splitlines()[-1]


def _cuda_installed() -> bool:
    import onnxruntime

    return CUDA in onnxruntime.get_available_providers()
