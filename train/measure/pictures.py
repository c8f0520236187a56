"""Figures of a report as SVG, with the colours and the font of the page.

Text is kept as text, for screen readers and search. The colours are CSS variables
of the page, so that they follow its light and dark schemes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "#000001": "var(--ink)",
    "#000002": "var(--faint)",
    "#000003": "var(--first)",
    "#000004": "var(--second)",
}
"""Placeholder colours that no figure uses otherwise, and the CSS variables that replace them."""
INK, FAINT, FIRST, SECOND = COLOURS
WIDTH, HEIGHT = 4.4, 3.3
"""Inches; the width of a phone, where the text is then not scaled down."""

STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "lines.linewidth": 1.6,
}


def reliability_picture(calibration: dict[str, Any]) -> str:
    """Accuracy against confidence by bin, before and after the temperature."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        for key, colour, marker in (("before", SECOND, "s"), ("after", FIRST, "o")):
            bins = calibration[key]["bins"]
            x, y = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
            most = max(row["n"] for row in bins)
            axes.plot(x, y, color=colour, linewidth=1)
            sizes = [12 + 70 * row["n"] / most for row in bins]
            label = f"{key} scaling: ECE {calibration[key]['ece']:.3f}"
            axes.scatter(x, y, s=sizes, color=colour, marker=marker, label=label, linewidths=0)
        axes.set(xlabel="probability of the answer", ylabel="share of right answers", xlim=(0, 1.03), ylim=(0, 1.03))
        axes.legend(loc="lower right", markerscale=0.7)

    return _svg("reliability", draw)


def risk_coverage_picture(curve: Sequence[Sequence[float]], coverage: float, accuracy: float | None) -> str:
    """Share of wrong answers against the share of answered images, with the point of the model's thresholds."""

    def draw(axes: Axes) -> None:
        x, y = [point[0] for point in curve], [100 * point[1] for point in curve]
        axes.plot(x, y, color=FIRST, label="most confident first")
        if accuracy is not None:
            axes.plot(coverage, 100 * (1 - accuracy), "D", color=SECOND, markersize=7, label="this model's thresholds")
        axes.set(xlabel="share of answered images", ylabel="wrong among the answered (%)", xlim=(0, 1.03))
        axes.set_ylim(bottom=-0.02 * axes.get_ylim()[1])
        axes.legend(loc="upper left")

    return _svg("risk-coverage", draw)


def tones_picture(tones: dict[str, list[float]]) -> str:
    """Mean histograms of the prepared images of the manifest and of the DICOM files."""

    def draw(axes: Axes) -> None:
        for key, label, colour in (("manifest", "images of the manifest", FIRST), ("dicom", "DICOM X-rays", SECOND)):
            steps = len(tones[key])
            edges = [step / max(1, steps) for step in range(steps + 1)]
            axes.stairs([100 * share for share in tones[key]], edges, color=colour, label=label, linewidth=1.6)
        axes.set(xlabel="gray value after preparation (0 black, 1 white)", ylabel="share of the pixels (%)")
        axes.set_xlim(0, 1)
        axes.legend(loc="upper center")

    return _svg("tones", draw)


def _svg(name: str, draw: Callable[[Axes], None]) -> str:
    """A picture as an <svg> element to embed in a page, hidden from screen readers since the page describes it."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    text = text[text.index("<svg") :].replace("<svg ", '<svg aria-hidden="true" ', 1)
    text = re.sub(
        r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL
    )  # it would apply to the whole page
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # the ids repeat in every figure and are not referenced
    text = re.sub(r"font-family: [^;\"]*; ", "", text)  # inherit the font of the page
    for stand_in, variable in COLOURS.items():
        text = text.replace(stand_in, variable)
    return text
