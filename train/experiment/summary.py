"""Results of a reproduction: the table, and reproduce.json with all figures."""

from __future__ import annotations

import json
from typing import Any

from train.experiment.environment import in_words
from train.experiment.reproduce import Choice, Finished, Outcome, Plan
from train.experiment.steps import duration
from train.measure.compare import rows_of, write_table
from worker import __version__

FIGURES = (
    "n",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "macro_f1_merged_chests",
    "adult_pediatric_balanced_accuracy",
    "ece",
    "answered",
    "unreadable",
    "model",
)
"""Figures of metrics.json that reproduce.json repeats."""


def write_summary(plan: Plan, outcome: Outcome, left_out: dict[str, str]) -> str:
    """Write reproduce.json and, where a recipe was finished, table.md and table.csv; returns the table.

    The files do not contain paths or the name of this machine.
    """
    out = plan.out
    written = json.dumps(_all_of(plan, outcome, left_out), indent=1)
    (out / "reproduce.json").write_text(written, encoding="utf-8")
    if not outcome.finished:
        return ""
    rows = rows_of([finished.result for finished in outcome.finished], {})
    for row, finished in zip(rows, outcome.finished):
        row["settings"] = settings_in_words(finished.choice, plan.smoke)
        row["training"] = time_in_words(finished.steps["fit"])
    write_table(rows, out / "table.csv")
    table = write_table(rows, out / "table.md")
    text = "\n".join([*_heading(plan), "", table, *_notes(plan, outcome, left_out)]) + "\n"
    (out / "table.md").write_text(text, encoding="utf-8")
    return text


def settings_in_words(choice: Choice, smoke: bool) -> str:
    """The settings that differ from the recipe's file, so that a shortened run is not mistaken for a full one."""
    changes = [f"{key} {now} (recipe: {was})" for key, (was, now) in choice.changed.items()]
    text = ", ".join(changes) or "as in the recipe"
    return f"SMOKE RUN, a part of the images; {text}" if smoke else text


def time_in_words(step: dict[str, Any]) -> str:
    """The duration of a step; a lower bound where it was resumed, since only the last attempt is measured."""
    return f"{'more than ' if step['attempts'] > 1 else ''}{duration(step['seconds'])}"


def _heading(plan: Plan) -> list[str]:
    if plan.smoke:
        return [
            "**Smoke run: a few images, tiny networks, one epoch. It shows that all steps run; "
            "its figures do not describe the recipes.**"
        ]
    if any(choice.changed for choice in plan.choices):
        return ["**Settings of the recipes were changed: see the column settings.**"]
    return []


def _notes(plan: Plan, outcome: Outcome, left_out: dict[str, str]) -> list[str]:
    images = ", ".join(f"{number} {split}" for split, number in outcome.images.items())
    lines = [f"Images: {images}. Every model was measured once on `test`; intervals are 95% bootstrap."]
    if plan.data.missing or outcome.broken:
        lines.append(f"{plan.data.missing} listed images are missing, {outcome.broken} files could not be used.")
    machines: dict[str, list[str]] = {}
    for finished in outcome.finished:
        machines.setdefault(in_words(finished.steps["fit"]["machine"]), []).append(finished.choice.name)
    if len(machines) == 1:
        lines.append(f"Trained on {next(iter(machines))}.")
    else:
        lines += [f"{', '.join(names)}: trained on {machine}." for machine, names in machines.items()]
    lines += [f"Left out: {name} ({reason})." for name, reason in left_out.items()]
    lines += [f"Failed: {name} ({kind})." for name, kind in outcome.failed.items()]
    # Two spaces at the end are a line break in Markdown.
    return [f"{line}  " for line in lines]


def _all_of(plan: Plan, outcome: Outcome, left_out: dict[str, str]) -> dict[str, Any]:
    return {
        "version": __version__,
        "smoke": plan.smoke,
        "images": outcome.images,
        "missing": plan.data.missing,
        "broken": outcome.broken,
        "recipes": {finished.choice.name: _as_json(finished) for finished in outcome.finished},
        "left_out": left_out,
        "failed": outcome.failed,
    }


def _as_json(finished: Finished) -> dict[str, Any]:
    figures = finished.result.figures
    return {
        "changed_settings": {key: {"recipe": was, "here": now} for key, (was, now) in finished.choice.changed.items()},
        "steps": {
            name: {key: step[key] for key in ("seconds", "attempts", "machine")}
            for name, step in finished.steps.items()
        },
        "figures": {key: figures[key] for key in FIGURES if key in figures},
    }
