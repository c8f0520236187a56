"""Drawings that are no X-rays, each from a generator of random numbers: (rows, columns) uint8."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Draw = Callable[[np.random.Generator], np.ndarray]
"""A generator of random numbers -> (rows, columns) uint8."""

WORDS = """
patient report findings the lungs are clear no focal consolidation heart size normal impression follow up in
two weeks invoice date total amount page reference department order number signature please return the form
""".split()  # noqa: SIM905


def _side(rng: np.random.Generator) -> int:
    return int(rng.integers(384, 1025))


def _shape(rng: np.random.Generator) -> tuple[int, int]:
    return _side(rng), _side(rng)


def _grid(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a picture of random shape, each in 0..1."""
    rows, columns = _shape(rng)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    return y / rows, x / columns


def stretched(values: np.ndarray) -> np.ndarray:
    """Any values, stretched to uint8."""
    low, high = float(values.min()), float(values.max())
    return np.uint8(np.rint((values - low) / max(high - low, 1e-9) * 255))


def _noise(rng: np.random.Generator, exponent: float) -> np.ndarray:
    """Noise whose amplitude spectrum is frequency to this power."""
    rows, columns = _shape(rng)
    spectrum = np.fft.rfft2(rng.normal(size=(rows, columns)))
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    frequency[0, 0] = 1
    return stretched(np.fft.irfft2(spectrum * frequency**exponent, (rows, columns)))


def white_noise(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, _shape(rng), dtype=np.uint8)


def pink_noise(rng: np.random.Generator) -> np.ndarray:
    return _noise(rng, -rng.uniform(0.4, 1.0))


def blue_noise(rng: np.random.Generator) -> np.ndarray:
    return _noise(rng, rng.uniform(0.5, 1.5))


def one_value(rng: np.random.Generator) -> np.ndarray:
    return np.full(_shape(rng), rng.integers(0, 256), np.uint8)


def blank_with_noise(rng: np.random.Generator) -> np.ndarray:
    return np.uint8(np.clip(rng.normal(rng.uniform(10, 245), rng.uniform(0.4, 4), _shape(rng)), 0, 255))


def linear_gradient(rng: np.random.Generator) -> np.ndarray:
    y, x = _grid(rng)
    angle = rng.uniform(0, 2 * np.pi)
    return stretched(x * np.cos(angle) + y * np.sin(angle))


def radial_gradient(rng: np.random.Generator) -> np.ndarray:
    y, x = _grid(rng)
    distance = np.hypot(y - rng.uniform(0.2, 0.8), x - rng.uniform(0.2, 0.8))
    return stretched((1 if rng.random() < 0.5 else -1) * distance ** rng.uniform(0.5, 2))


def blob_gradients(rng: np.random.Generator) -> np.ndarray:
    """Some soft spots, as a light leak or an unfocused lamp."""
    y, x = _grid(rng)
    spots = np.zeros_like(x)
    for _ in range(rng.integers(2, 6)):
        size = rng.uniform(0.05, 0.3)
        spots += rng.uniform(0.3, 1) * np.exp(-((y - rng.random()) ** 2 + (x - rng.random()) ** 2) / size**2)
    return stretched(spots + rng.normal(0, 0.004, x.shape))


def checkerboard(rng: np.random.Generator) -> np.ndarray:
    rows, columns = _shape(rng)
    cell = int(rng.integers(8, 96))
    y, x = np.mgrid[0:rows, 0:columns]
    return np.uint8(((y // cell + x // cell) % 2) * 255)


def siemens_star(rng: np.random.Generator) -> np.ndarray:
    y, x = _grid(rng)
    angle = np.arctan2(y - 0.5, x - 0.5)
    star = np.sin(angle * int(rng.integers(8, 40))) > 0
    return np.uint8(np.where(np.hypot(y - 0.5, x - 0.5) < rng.uniform(0.3, 0.5), star * 255, 128))


def colour_bars(rng: np.random.Generator) -> np.ndarray:
    """Gray of the SMPTE bars: three rows of flat rectangles."""
    rows, columns = _shape(rng)
    bars = np.zeros((rows, columns), np.uint8)
    for top, bottom in ((0, 0.66), (0.66, 0.75), (0.75, 1)):
        number = int(rng.integers(5, 9))
        for index in range(number):
            left, right = index * columns // number, (index + 1) * columns // number
            bars[int(top * rows) : int(bottom * rows), left:right] = rng.integers(0, 256)
    return bars


def test_pattern(rng: np.random.Generator) -> np.ndarray:
    """As TG18-QC: patches of gray, line pairs, a grid, on a middle gray."""
    rows = columns = _side(rng)
    pattern = np.full((rows, columns), int(rng.integers(90, 150)), np.uint8)
    step = rows // int(rng.integers(8, 16))
    pattern[::step] = pattern[:, ::step] = 200
    patch = rows // 12
    for index in range(10):
        for top in (rows // 4, rows // 2):
            pattern[top : top + patch, (index + 1) * patch : (index + 2) * patch] = index * 25
    for corner in (0, 1):
        box = pattern[-patch * 2 :, : patch * 2] if corner else pattern[: patch * 2, -patch * 2 :]
        box[:] = np.uint8((np.arange(box.shape[1]) // int(rng.integers(1, 4)) % 2) * 255)
    return pattern


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _page(rng: np.random.Generator, paper: int, ink: int, size: int) -> Image.Image:
    rows = _side(rng)
    page = Image.new("L", (int(rows * rng.uniform(0.65, 1.2)), rows), paper)
    drawing, margin = ImageDraw.Draw(page), int(rng.integers(10, 60))
    y = margin
    while y < rows - margin:
        if rng.random() < 0.9:
            line = " ".join(rng.choice(WORDS, int(rng.integers(3, 14))))
            drawing.text((margin, y), line, ink, font=_font(size))
        y += int(size * 1.4)
    return page


def text_page(rng: np.random.Generator) -> np.ndarray:
    """Dark on white."""
    return np.array(_page(rng, int(rng.integers(225, 256)), int(rng.integers(0, 60)), int(rng.integers(9, 30))))


def terminal(rng: np.random.Generator) -> np.ndarray:
    """Bright text on black, as a console or a burned-in report."""
    return np.array(_page(rng, int(rng.integers(0, 30)), int(rng.integers(150, 256)), int(rng.integers(11, 26))))


def scanned_page(rng: np.random.Generator) -> np.ndarray:
    """A text page, turned a little, blurred, unevenly lit, with noise."""
    page = text_page(rng).astype(np.float32)
    turn = cv2.getRotationMatrix2D((page.shape[1] / 2, page.shape[0] / 2), rng.uniform(-4, 4), 1)
    page = cv2.warpAffine(page, turn, page.shape[::-1], borderValue=float(rng.integers(0, 256)))
    page = cv2.GaussianBlur(page, (0, 0), rng.uniform(0.5, 1.5))
    light = np.linspace(rng.uniform(0.7, 1), rng.uniform(0.7, 1), page.shape[1])
    return np.uint8(np.clip(page * light + rng.normal(0, 3, page.shape), 0, 255))


def _plotted(rng: np.random.Generator, draw: Callable[..., None]) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(rng.uniform(4, 8), rng.uniform(4, 8)), dpi=100)
    canvas = FigureCanvasAgg(figure)
    if rng.random() < 0.3:
        figure.set_facecolor("black")
    draw(figure.subplots())
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return np.array(Image.open(buffer).convert("L"))


def line_plot(rng: np.random.Generator) -> np.ndarray:
    def draw(axes: object) -> None:
        for _ in range(rng.integers(1, 6)):
            axes.plot(np.cumsum(rng.normal(size=200)))  # type: ignore[attr-defined]

    return _plotted(rng, draw)


def bar_chart(rng: np.random.Generator) -> np.ndarray:
    return _plotted(rng, lambda axes: axes.bar(range(12), rng.random(12), color=str(rng.uniform(0, 0.8))))


def scatter_plot(rng: np.random.Generator) -> np.ndarray:
    return _plotted(rng, lambda axes: axes.scatter(rng.normal(size=400), rng.normal(size=400), s=rng.uniform(3, 60)))


def ecg_strip(rng: np.random.Generator) -> np.ndarray:
    """Leads of an ECG on millimetre paper."""
    rows, columns = 700, int(rng.integers(600, 1024))
    paper = np.full((rows, columns), 245, np.uint8)
    paper[::10] = paper[:, ::10] = 225
    paper[::50] = paper[:, ::50] = 190
    beat = np.exp(-(np.linspace(-6, 6, 60) ** 2) * 4) * rng.uniform(30, 60)
    for lead in range(5):
        y = 80 + lead * 130 - np.tile(beat, columns // 60 + 1)[:columns] + rng.normal(0, 1, columns)
        points = np.stack([np.arange(columns), y], 1).astype(np.int32)
        cv2.polylines(paper, [points.reshape(-1, 1, 2)], False, 20, 1, cv2.LINE_AA)
    return paper


def line_drawing(rng: np.random.Generator) -> np.ndarray:
    rows, columns = _shape(rng)
    paper = np.full((rows, columns), 255, np.uint8)
    for _ in range(rng.integers(8, 40)):
        points = rng.integers(0, (columns, rows), (int(rng.integers(2, 6)), 2))
        cv2.polylines(
            paper, [points.reshape(-1, 1, 2).astype(np.int32)], False, 0, int(rng.integers(1, 4)), cv2.LINE_AA
        )
        centre = tuple(int(v) for v in rng.integers(0, (columns, rows)))
        cv2.circle(paper, centre, int(rng.integers(5, 120)), 0, int(rng.integers(1, 4)), cv2.LINE_AA)
    return paper if rng.random() < 0.7 else 255 - paper


def qr_code(rng: np.random.Generator) -> np.ndarray:
    """Random modules with the three finder patterns of a QR code."""
    side = 4 * int(rng.integers(1, 10)) + 17
    code = rng.integers(0, 2, (side, side)).astype(np.uint8)
    for top, left in ((0, 0), (0, side - 7), (side - 7, 0)):
        code[top : top + 7, left : left + 7] = 1
        code[top + 1 : top + 6, left + 1 : left + 6] = 0
        code[top + 2 : top + 5, left + 2 : left + 5] = 1
    return np.kron(np.pad(1 - code, 4, constant_values=1) * np.uint8(255), np.ones((8, 8), np.uint8))


def barcode(rng: np.random.Generator) -> np.ndarray:
    rows, columns = _shape(rng)
    widths = rng.integers(1, 5, columns) * int(rng.integers(1, 4))
    stripe = np.repeat(np.arange(columns) % 2, widths)[:columns].astype(np.uint8) * 255
    code = np.full((rows, columns), 255, np.uint8)
    margin = int(rng.integers(0, rows // 4))
    code[margin : rows - margin] = stripe
    return code


def _icon(rng: np.random.Generator) -> np.ndarray:
    """(16, 16): some shapes on a flat ground."""
    icon = np.full((16, 16), rng.integers(0, 256), np.uint8)
    for _ in range(rng.integers(1, 5)):
        centre, value = tuple(int(v) for v in rng.integers(2, 14, 2)), int(rng.integers(0, 256))
        if rng.random() < 0.5:
            cv2.circle(icon, centre, int(rng.integers(1, 7)), value, -1)
        else:
            cv2.rectangle(icon, centre, tuple(int(v) for v in rng.integers(0, 16, 2)), value, -1)
    return icon


def icon(rng: np.random.Generator) -> np.ndarray:
    return _icon(rng)


def icon_in_blocks(rng: np.random.Generator) -> np.ndarray:
    return cv2.resize(_icon(rng), (512, 512), interpolation=cv2.INTER_NEAREST)


def icon_smoothed(rng: np.random.Generator) -> np.ndarray:
    return cv2.resize(_icon(rng), (512, 512), interpolation=cv2.INTER_CUBIC)


def screenshot(rng: np.random.Generator) -> np.ndarray:
    """Windows with title bars, buttons and text."""
    screen = Image.new("L", (1024, int(rng.integers(576, 800))), int(rng.integers(20, 240)))
    drawing = ImageDraw.Draw(screen)
    for _ in range(rng.integers(2, 5)):
        x, y = (int(v) for v in rng.integers(0, (600, 400)))
        right, bottom, ground = (
            x + int(rng.integers(200, 500)),
            y + int(rng.integers(150, 400)),
            int(rng.integers(200, 256)),
        )
        drawing.rectangle((x, y, right, bottom), ground, 90)
        drawing.rectangle((x, y, right, y + 24), int(rng.integers(40, 160)))
        for line in range(y + 34, bottom - 20, 18):
            drawing.text((x + 10, line), " ".join(rng.choice(WORDS, 4)), 20, font=_font(12))
        drawing.rounded_rectangle((right - 80, bottom - 30, right - 10, bottom - 8), 6, 150)
    return np.array(screen)


def form(rng: np.random.Generator) -> np.ndarray:
    """A table with cells, some filled in."""
    page = Image.new("L", (720, 1000), 255)
    drawing, row, column = ImageDraw.Draw(page), int(rng.integers(30, 70)), int(rng.integers(90, 240))
    for y in range(40, 960, row):
        drawing.line((30, y, 690, y), 0, int(rng.integers(1, 3)))
        for x in range(30, 690, column):
            drawing.line((x, 40, x, 960), 0, 1)
            if rng.random() < 0.6:
                drawing.text((x + 4, y + 4), str(rng.choice(WORDS)), 30, font=_font(14))
    return np.array(page)
