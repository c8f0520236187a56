"""A model in memory: it prepares images and gives the probabilities of its classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worker.errors import BadModelFile, ModelError
from worker.inference.card import ModelCard, read_card
from worker.inference.prepare import PREPARATIONS
from worker.inference.session import CPU, cpu_session, open_session, properties, session_options
from worker.settings import Wanted

if TYPE_CHECKING:
    from worker.settings import Settings

PACKAGED_MODEL = Path(__file__).parents[1] / "models" / "body_parts.onnx"

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)
"""On a GPU batches are padded to one of these, so that its memory arena stops growing."""

LARGEST_BATCH = BATCH_BUCKETS[-1]
"""Most images that are decoded, inferred and held in memory together; larger jobs are split."""


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

    Raises BadModelFile, also where the card and the graph disagree: see `check`.
    """

    def __init__(
        self, path: Path = PACKAGED_MODEL, device: str = "auto", threads: int = 1, wanted: Wanted = "fp32"
    ) -> None:
        if not path.is_file():
            raise BadModelFile(f"{path}: no such model file", "set DICOM_ROUTER_MODEL to an exported .onnx")
        self.path, self._session, self.provider = open_session(path, wanted, device, threads)
        self.card = read_card(properties(self._session), self.path)
        if self.path != path:
            _check_same_model(self.card, self.path, path)
        self._input = self._session.get_inputs()[0].name
        self.check()

    @classmethod
    def from_settings(cls, settings: Settings, threads: int = 1) -> Classifier:
        """The model that the settings name, in the variant that they ask for."""
        return cls(settings.model or PACKAGED_MODEL, settings.device, threads, settings.precision)

    def check(self) -> None:
        """Compare the graph with its card, then run one image alone and two together through the model.

        Raises BadModelFile where the input or the output is not as the card says, or the output is not
        finite; ModelError where a GPU fails.
        """
        size, classes = self.card.size, len(self.card.classes)
        given = self._session.get_inputs()
        if len(given) != 1:
            raise self._disagree(f"the graph has {len(given)} inputs, a classifier has 1")
        shape = given[0].shape
        # A free dimension has a name in place of a number.
        fixed = [(have, want) for have, want in zip(shape[1:], (1, size, size)) if isinstance(have, int)]
        if len(shape) != 4 or any(have != want for have, want in fixed):
            raise self._disagree(
                f"the card says 1 channel of {size} x {size} pixels, the graph takes the shape {shape}"
            )
        # A ramp from dark to bright: no step sees a constant image.
        image = self.prepare(np.tile(np.arange(size, dtype=np.float32), (size, 1)))
        for number in (1, 2):
            batch = np.stack([image] * number)
            try:
                logits = self.logits(batch)
            except Exception as error:  # onnxruntime's own kinds, by version
                if self.provider != CPU and self._runs_on_cpu(batch):
                    raise ModelError(
                        f"{self.path}: a first inference failed on the GPU ({type(error).__name__})",
                        "look at the GPU and its driver",
                    ) from error
                raise self._disagree(
                    f"a batch of {number} with 1 channel of {size} x {size} pixels, as the card says, "
                    f"cannot be inferred ({type(error).__name__})"
                ) from error
            if logits.shape != (number, classes):
                raise self._disagree(
                    f"the card names {classes} classes, the graph answers a batch of {number} with the shape "
                    f"{list(logits.shape)}"
                )
            if not np.isfinite(logits).all():
                raise self._disagree("the outputs for a ramp from dark to bright are not finite")

    def _runs_on_cpu(self, batch: np.ndarray) -> bool:
        """Whether the CPU infers a batch on which the GPU failed: then the model is not to blame."""
        try:
            cpu_session(self.path, session_options(1)).run(None, {self._input: batch})
        except Exception:  # onnxruntime's own kinds, by version
            return False
        return True

    def _disagree(self, what: str) -> BadModelFile:
        return BadModelFile(f"{self.path}: {what}", "export the model again with dicom-router-train")

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """(rows, columns), bone bright -> (1, size, size) float32, normalised."""
        square = PREPARATIONS[self.card.preparation](pixels, self.card.size)
        return ((square - self.card.mean) / self.card.std)[None].astype(np.float32)

    def logits(self, batch: np.ndarray) -> np.ndarray:
        """(n, 1, size, size) float32 -> (n, classes) float64."""
        n = len(batch)
        if self.provider != CPU:
            room = next((b for b in BATCH_BUCKETS if b >= n), n)
            batch = np.concatenate([batch, np.zeros((room - n, *batch.shape[1:]), batch.dtype)]) if room > n else batch
        return np.asarray(self._session.run(None, {self._input: batch})[0], np.float64)[:n]

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        """(n, 1, size, size) float32 -> (n, classes) float64 calibrated probabilities."""
        return softmax(self.logits(batch), self.card.temperature)


def _check_same_model(card: ModelCard, found: Path, path: Path) -> None:
    """Raises BadModelFile where a variant was left behind by another model."""
    import onnxruntime

    options = session_options(1)
    # Opened to be read only.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    whole = read_card(properties(cpu_session(path, options)), path)
    if not card.source or (card.source, card.name, card.version) != (whole.source, whole.name, whole.version):
        raise BadModelFile(
            f"{found}: it is no variant of {path.name} (this is {card.name} {card.version}, that is "
            f"{whole.name} {whole.version})",
            "export all variants again, remove it, or set DICOM_ROUTER_PRECISION=fp32",
        )
