"""A small part of a data set that still has every class, and every class's sources: for a smoke run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from train.data.classes import classes_of
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

LEARNED = 80
"""Images of each class to learn from: with three sources to take turns, 50 remain when one of them is left out,
below which train.fit.validate scores no class."""
PARTIALLY_LABELLED = 20
TESTED = 8


def small_part(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of a manifest (as read_manifest gives them): of each class LEARNED to learn from and TESTED of `test`.

    Sources take turns, so that none of a class is missing while another has many. Which
    images it are depends on the files' names alone. A data set without
    splits stays without. Raises ConfigError where nothing is to learn from.
    """
    import pandas as pd

    tested = frame["split"] == "test"
    learned = frame["split"].isin(["dev", "train", "val", ""])
    if not learned.any():
        raise ConfigError("no row has the split dev, train or val", "give the manifest rows to learn from")
    partial = classes_of(frame["class"]).partial
    parts = []
    for (name, is_test), rows in frame[tested | learned].groupby(["class", tested], sort=True):
        most = TESTED if is_test else PARTIALLY_LABELLED if name in partial else LEARNED
        parts.append(_in_turns(rows).head(most))
    return pd.concat(parts).sort_index().reset_index(drop=True)


def _in_turns(rows: pd.DataFrame) -> pd.DataFrame:
    """One image of each source, then the next of each; within a source in an order that means nothing."""
    shuffled = rows.assign(_order=[hashlib.sha256(file.encode()).hexdigest() for file in rows["file"]])
    shuffled = shuffled.sort_values("_order")
    shuffled["_turn"] = shuffled.groupby("dataset").cumcount()
    return shuffled.sort_values(["_turn", "dataset"]).drop(columns=["_order", "_turn"])
