"""Learning curves: a JSON line for each epoch, and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_course(history: list[dict[str, Any]], folder: Path, title: str) -> None:
    """Write log.jsonl and curves.png; both are rewritten each time, so that a resumed run repeats no line.

    history: one entry an epoch with epoch, train_loss, val_loss,
    val_accuracy, val_macro_f1 and rate.
    """
    log = folder / "log.part"
    log.write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
    log.replace(folder / "log.jsonl")
    _draw(history, folder / "curves.png", title)


def _draw(history: list[dict[str, Any]], path: Path, title: str) -> None:
    # Not pyplot, which keeps every figure in memory and may need a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = (
        ("loss", {"training": "train_loss", "validation": "val_loss"}),
        ("validation images", {"accuracy": "val_accuracy", "macro-F1": "val_macro_f1"}),
        ("learning rate, end of epoch", {"": "rate"}),
    )
    epochs = [row["epoch"] for row in history]
    for axes, (name, lines) in zip(figure.subplots(1, len(panels)), panels):
        for label, key in lines.items():
            axes.plot(epochs, [row[key] for row in history], marker="." if len(history) < 30 else "", label=label)
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend()
    part = path.with_suffix(".part.png")
    figure.savefig(part, dpi=110)
    part.replace(path)
