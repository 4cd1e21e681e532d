"""A scorer: a numeric matrix in, a number per row out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Scorer(Protocol):
    """A loaded model. Thread-safe; never changes."""

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row. Called once a request.

        ``matrix`` is C-contiguous, rows by columns, NaN where a feature is missing.
        """
        ...


class ScorerLoader(Protocol):
    """Turns the bytes of one model format into a scorer."""

    format: str

    def load(self, data: bytes, columns: int) -> Scorer:
        """Load a model. Raises ModelError if it is not one, or takes another number of columns."""
        ...
