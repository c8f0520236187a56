"""Pictures that are no X-rays, drawn with a seed, and a few from installed packages.

Two tables of kinds: the gate's bounds were chosen on CHOOSING (and on X-rays), and TESTING has other
kinds, on which nothing was chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np
from PIL import Image

from tests.drawings import (
    Draw,
    bar_chart,
    barcode,
    blank_with_noise,
    blob_gradients,
    blue_noise,
    checkerboard,
    colour_bars,
    ecg_strip,
    form,
    icon,
    icon_in_blocks,
    icon_smoothed,
    line_drawing,
    line_plot,
    linear_gradient,
    one_value,
    pink_noise,
    qr_code,
    radial_gradient,
    scanned_page,
    scatter_plot,
    screenshot,
    siemens_star,
    stretched,
    terminal,
    test_pattern,
    text_page,
    white_noise,
)
from tests.helpers import read


def spectrogram(rng: np.random.Generator) -> np.ndarray:
    time = np.arange(60000) / 8000
    sound = np.sin(2 * np.pi * (rng.uniform(200, 900) * time + rng.uniform(20, 120) * time**2))
    sound = sound + 0.5 * np.sin(2 * np.pi * rng.uniform(1000, 3000) * time) * (np.sin(time * 9) > 0)
    sound = sound + rng.normal(0, rng.uniform(0.02, 0.3), time.shape)
    frames = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::128] * np.hanning(1024)
    return stretched(np.log10(np.abs(np.fft.rfft(frames)).T[::-1] + 1e-2))


def _escape(start: np.ndarray, constant: np.ndarray | complex) -> np.ndarray:
    """How many steps of z*z + c stay within 2, at most 60."""
    z, steps = start.copy(), np.zeros(start.shape, np.float32)
    for _ in range(60):
        inside = np.abs(z) < 2
        z = np.where(inside, z * z + constant, z)
        steps += inside
    return stretched(np.log1p(steps))


def julia_set(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[-1.3:1.3:400j, -1.5:1.5:400j]
    angle = rng.uniform(0, 2 * np.pi)
    return _escape(x + 1j * y, 0.7885 * np.exp(1j * angle))


def mandelbrot_set(rng: np.random.Generator) -> np.ndarray:
    centre = 0.25 * np.exp(1j * rng.uniform(0, 2 * np.pi)) - 1
    width = rng.uniform(0.05, 0.6)
    y, x = np.mgrid[-width:width:400j, -width:width:400j]
    points = centre + x + 1j * y
    return _escape(np.zeros_like(points), points)


@cache
def _photograph(name: str) -> np.ndarray:
    """(rows, columns) uint8 of a photograph that comes with a package."""
    if name in ("china", "flower"):
        from sklearn.datasets import load_sample_image

        return cv2.cvtColor(load_sample_image(f"{name}.jpg"), cv2.COLOR_RGB2GRAY)
    if name == "grace_hopper":
        from matplotlib import cbook

        with cbook.get_sample_data("grace_hopper.jpg", asfileobj=True) as file:
            return np.array(Image.open(file).convert("L"))
    import pywt.data

    return np.uint8(getattr(pywt.data, name)())


def _part(rng: np.random.Generator, picture: np.ndarray, least: float = 0.5) -> np.ndarray:
    """A random part with at least this share of each side, perhaps mirrored."""
    rows, columns = (int(side * rng.uniform(least, 1)) for side in picture.shape)
    top, left = (int(rng.integers(0, side - size + 1)) for side, size in zip(picture.shape, (rows, columns)))
    part = picture[top : top + rows, left : left + columns]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def photograph(rng: np.random.Generator) -> np.ndarray:
    return _part(rng, _photograph(str(rng.choice(["china", "camera"]))))


def other_photograph(rng: np.random.Generator) -> np.ndarray:
    return _part(rng, _photograph(str(rng.choice(["flower", "grace_hopper", "ascent", "aero"]))))


def halftone(rng: np.random.Generator) -> np.ndarray:
    """A printed photograph: dots of two values."""
    photo = cv2.resize(photograph(rng), (640, 640)).astype(np.float32)
    y, x = np.mgrid[0:640, 0:640]
    period = rng.uniform(4, 9)
    screen = np.sin((x + y) * 2 * np.pi / period) * np.sin((x - y) * 2 * np.pi / period)
    return np.uint8((photo / 255 > screen * 0.5 + 0.5) * 255)


def _frame(name: str) -> np.ndarray:
    """(rows, columns) of a DICOM file of another modality: its first frame in gray."""
    pixels = read(name).pixel_array
    pixels = pixels[0] if pixels.ndim == 4 or (pixels.ndim == 3 and pixels.shape[-1] != 3) else pixels
    return stretched(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels.astype(np.float32))


def _slices(names: tuple[str, ...]) -> Draw:
    def draw(rng: np.random.Generator) -> np.ndarray:
        return _part(rng, _frame(str(rng.choice(names))), 0.85)

    return draw


CHOOSING: dict[str, Draw] = {
    "white noise": white_noise,
    "one value": one_value,
    "linear gradients": linear_gradient,
    "soft spots": blob_gradients,
    "checkerboards": checkerboard,
    "colour bars": colour_bars,
    "text pages": text_page,
    "line plots": line_plot,
    "line drawings": line_drawing,
    "QR codes": qr_code,
    "icons in blocks": icon_in_blocks,
    "icons smoothed": icon_smoothed,
    "photographs: china, camera": photograph,
    "halftone": halftone,
    "Julia sets": julia_set,
    "ultrasound": _slices(("US1_UNCR.dcm", "examples_ybr_color.dcm")),
    "MR slices": _slices(("MR_small.dcm", "MR2_UNCR.dcm")),
}
"""Kinds on which the bounds were chosen. `icons smoothed` was a testing kind until a bound was chosen on it."""

TESTING: dict[str, Draw] = {
    "pink noise": pink_noise,
    "blue noise": blue_noise,
    "blank with noise": blank_with_noise,
    "radial gradients": radial_gradient,
    "Siemens stars": siemens_star,
    "test patterns": test_pattern,
    "terminals": terminal,
    "scanned pages": scanned_page,
    "forms": form,
    "screenshots": screenshot,
    "bar charts": bar_chart,
    "scatter plots": scatter_plot,
    "ECG strips": ecg_strip,
    "barcodes": barcode,
    "icons of 16 x 16": icon,
    "spectrograms": spectrogram,
    "Mandelbrot sets": mandelbrot_set,
    "photographs: flower, hopper, ascent, aero": other_photograph,
    "CT slices": _slices(("CT_small.dcm", "eCT_Supplemental.dcm")),
}
"""Kinds on which the bounds are tested."""

HARD = frozenset({"photographs: flower, hopper, ascent, aero", "CT slices"})
"""Testing kinds that statistics of the pixels do not tell from X-rays: reported by benchmarks.gate, not promised."""


def pictures(kinds: dict[str, Draw], kind: str, number: int) -> Iterator[np.ndarray]:
    """The first pictures of one kind; always the same. (rows, columns) uint8."""
    seed = [*kind.encode()]
    return (kinds[kind](np.random.default_rng([*seed, index])) for index in range(number))
