"""Images that show nothing."""

from __future__ import annotations

import numpy as np

from worker.errors import BlankPixels


def refuse_blank(values: np.ndarray, what: str = "every pixel has the same value") -> None:
    """Raise BlankPixels where all values are equal; a model would give such an image a class all the same.

    values: any shape, at least one value.
    """
    if values.min() == values.max():
        raise BlankPixels(what, "send the image again from its source, or delete it")
