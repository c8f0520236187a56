"""The figures of an evaluation as text and as Markdown tables."""

from __future__ import annotations

from typing import Any

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def number(count: int) -> str:
    """A number up to twelve as a word, else in digits."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def span_text(figure: dict[str, float] | None) -> str:
    """A figure and its interval as text."""
    return "not measured" if figure is None else f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def main_figures(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Titles and keys of the main figures; those of chests only where adult and child are classes."""
    count = len(figures["confusion"]["classes"])
    titles = [
        (f"macro-F1, {number(count)} classes", "macro_f1"),
        ("macro recall", "macro_recall"),
        ("macro precision", "macro_precision"),
        (f"macro-F1, {number(count - 1)} classes (chests merged)", "macro_f1_merged_chests"),
        ("adult against child, balanced accuracy", "adult_pediatric_balanced_accuracy"),
    ]
    return [(title, key) for title, key in titles if key in figures]


def tables(figures: dict[str, Any]) -> str:
    """The figures as Markdown, as in the model card."""
    classes = figures["confusion"]["classes"]
    lines = ["| figure | value (95% bootstrap interval) |", "| --- | --- |"]
    lines += [f"| {title} | {span_text(figures[key])} |" for title, key in main_figures(figures)]
    answered = figures["answered"]
    accuracy = "none was answered" if answered["accuracy"] is None else f"{answered['accuracy']:.3f}"
    lines += [
        f"| images | {figures['n']} |",
        f"| expected calibration error | {figures['ece']:.3f} |",
        f"| answered (the rest is put to review) | {answered['coverage']:.3f} |",
        f"| right among the answered | {accuracy} |",
        "",
        "| class | images | recall | precision | F1 | answered |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {row['n']} | {row['recall']} | {row['precision']} | {row['f1']} | {row['answered']} |"
        for name, row in figures["per_class"].items()
    ]
    lines += ["", "Confusion (rows: truth, columns: predicted)", "", "| | " + " | ".join(classes) + " |"]
    lines += ["| --- " * (len(classes) + 1) + "|"]
    for name, row in zip(classes, figures["confusion"]["matrix"]):
        lines.append(f"| {name} | " + " | ".join(map(str, row)) + " |")
    lines += ["", "| source | images | right |", "| --- | --- | --- |"]
    lines += [f"| {name} | {row['n']} | {row['share']} |" for name, row in figures["per_dataset"].items()]
    if "pediatric_recall_by_age" in figures:
        ages = figures["pediatric_recall_by_age"]
        lines += ["", "| children's age (years) | images | found |", "| --- | --- | --- |"]
        lines += [f"| {band} | {row['n']} | {row['right']} |" for band, row in ages.items()]
    return "\n".join(lines) + "\n"
