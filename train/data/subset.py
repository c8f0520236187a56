"""A small part of a data set for a smoke run, with all classes and the sources of each class."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from train.data.classes import classes_of
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

LEARNED = 80
"""Training images of each class. With three sources of equal size, 53 remain when one is left out;
train.fit.validate needs 50 to score a class."""
PARTIALLY_LABELLED = 20
TESTED = 8


def small_part(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of a manifest (as read_manifest returns them): for each class LEARNED training rows and TESTED of `test`.

    Rows are taken from the sources of a class in turn. The choice depends on
    the files' names only. A data set without splits gets none.
    Raises ConfigError where there is no training row.
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
    """The rows in an order that takes one image of each source in turn; the order within a source is pseudo-random."""
    shuffled = rows.assign(_order=[hashlib.sha256(file.encode()).hexdigest() for file in rows["file"]])
    shuffled = shuffled.sort_values("_order")
    shuffled["_turn"] = shuffled.groupby("dataset").cumcount()
    return shuffled.sort_values(["_turn", "dataset"]).drop(columns=["_order", "_turn"])
