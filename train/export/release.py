"""Export of a checkpoint to the files that the worker runs: fp32, and variants that agree with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.data.images import ImageCache
from train.data.manifest import read_manifest
from train.export.onnx_file import export
from train.export.variants import COMPARED_IMAGES, add_variants
from train.networks.checkpoint import load
from worker.errors import ConfigError
from worker.settings import Precision

log = logging.getLogger(__name__)


def release(
    checkpoint: Path,
    target: Path,
    manifest: Path,
    precisions: Sequence[Precision],
    *,
    splits: Path | None = None,
    licences: Sequence[str] | None = None,
    cache: Path | None = None,
) -> Path:
    """Write the fp32 model and its variants, compared with PyTorch on images of the split dev; the model's path.

    splits, licences: as for read_manifest. cache: folder of decoded images;
    None for the folder cache/ beside the checkpoint. Files that cannot be used are
    logged and left out.

    Raises ConfigError where no image is left.
    """
    frame = read_manifest(manifest, "dev", splits=splits, licences=licences)
    # Variants are measured on all images of dev, fp32 on a part of them.
    frame = frame.sample(len(frame) if precisions else min(COMPARED_IMAGES, len(frame)), random_state=0)
    paths = list(frame["path"])
    images_of = ImageCache(cache or checkpoint.parent / "cache", load(checkpoint).recipe["size"])
    usable = [path for path, entry in zip(paths, images_of.fill(paths)) if not entry.broken]
    if not usable:
        raise ConfigError(
            f"{manifest}: none of {len(paths)} images could be read to compare the model on",
            "check the paths in the manifest",
        )
    images = images_of.images(usable)
    difference = export(checkpoint, target, _measured(checkpoint), images[:COMPARED_IMAGES])
    log.info(f"{target}: {target.stat().st_size / 1e6:.1f} MB, largest difference to PyTorch {difference:.2g}")
    add_variants(checkpoint, target, images, precisions)
    return target


def _measured(checkpoint: Path) -> dict[str, Any]:
    """Figures for the model file, from the validation.json beside the checkpoint."""
    path = checkpoint.with_name("validation.json")
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {"validation": figures.get("decays") or figures.get("validation", {})}
