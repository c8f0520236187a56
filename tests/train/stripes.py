"""Synthetic pictures that a small network learns in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from train.data.classes import PAPER


def stripes(label: int, random: np.random.Generator) -> np.ndarray:
    """A picture whose class is given by the direction and the width of its stripes."""
    rows, columns = np.mgrid[:96, :96]
    across = (rows, columns, rows + columns, rows - columns, rows * columns / 48)[label]
    return (127 + 90 * np.sin(across / 3) + random.normal(0, 15, (96, 96))).clip(0, 255).astype(np.uint8)


def write_manifest(folder: Path, sources: Mapping[str, tuple[str, int]], classes: Sequence[str] = PAPER.names) -> Path:
    """Write pictures and a manifest into `folder`; its path. sources: name -> (split, pictures of each class)."""
    random = np.random.default_rng(0)
    lines = ["file,class,split,dataset,patient,age"]
    for source, (split, number) in sources.items():
        for label, name in enumerate(classes):
            for index in range(number):
                file = f"{split}-{source}-{name}-{index}.png"
                cv2.imwrite(str(folder / file), stripes(label, random))
                lines.append(f"{file},{name},{split},{source},{source}{name}{index},{3 if 'ped' in name else 40}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"
