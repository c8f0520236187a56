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
    lines += level_lines(figures)
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


def level_title(name: str, level: dict[str, Any]) -> str:
    """A level of the tree in words."""
    count = number(len(level["classes"]))
    titles = {"four": f"{count} classes (chests merged)", "leaves": f"{count} outputs of the network"}
    return titles.get(name, f"{count} classes")


AGE_CASES = {
    "known": "every header has the right age",
    "imperfect": "5% of the headers have no age, 2% an age of the other group",
}
"""Titles of the figures with the header's age; the shares are those of train.measure.levels."""


def age_note(age: dict[str, Any]) -> str:
    """Where the ages come from."""
    text = (
        "The header's age decides between the two chests where the pixels say chest. Ages are those of the manifest, "
        "and take the place of a header's."
    )
    if age["from_class"]:
        text += (
            f" {age['from_class']} images of a chest whose age the manifest does not state got an age of their class: "
            "for these the class stands for the age group."
        )
    if age["drawn"]:
        text += (
            f" {age['drawn']} images of other parts without an age got one drawn from the known ages (fixed seed), "
            "so that one taken for a chest counts as a wrong answer."
        )
    return text + " The second line is the mean over all ways to draw these headers, not one drawing."


def distinct_levels(levels: dict[str, Any]) -> dict[str, Any]:
    """The levels that hold images, each set of classes once: in a flat file the outputs are the classes."""
    shown: dict[str, Any] = {}
    for name, level in levels.items():
        if level["n"] and all(set(level["classes"]) != set(other["classes"]) for other in shown.values()):
            shown[name] = level
    return shown


def level_lines(figures: dict[str, Any]) -> list[str]:
    """Figures at each level, and with the header's age; none where `figures` are of an earlier version."""
    levels = distinct_levels(figures.get("levels", {}))
    if not levels:
        return []
    lines = [
        "",
        "| level, by pixels alone | macro-F1 | answered | right among the answered | expected calibration error |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, level in levels.items():
        spans = level["intervals"]
        lines.append(
            f"| {level_title(name, level)} | {span_text(level['macro_f1'])} | {span_text(spans['coverage'])} "
            f"| {span_text(spans['accuracy'])} | {level['ece']:.3f} |"
        )
    lines += ["", "| level | class | images | answered | right among the answered |", "| --- | --- | --- | --- | --- |"]
    for name, level in levels.items():
        lines += [
            f"| {level_title(name, level)} | {part} | {found['n']} | {found['coverage']} | {found['accuracy']} |"
            for part, found in level["answered"]["per_class"].items()
        ]
    age = figures.get("header_age")
    if age:
        lines += ["", "| with the header's age | answered | right among the answered |", "| --- | --- | --- |"]
        for case, title in AGE_CASES.items():
            spans = age[case]["intervals"]
            lines.append(f"| {title} | {span_text(spans['coverage'])} | {span_text(spans['accuracy'])} |")
        lines += ["", age_note(age)]
    return lines
