"""A scorer: a numeric matrix in, a number per row out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from feilun.errors import ModelError


class Scorer(Protocol):
    """A loaded model. Thread-safe; never changes."""

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row, higher for better. Called once a request.

        Pure: the same matrix gives the same scores, in any process.

        Parameters
        ----------
        matrix : float32 array, rows by columns
            C-contiguous; NaN where a feature is missing; possibly without rows.

        Raises
        ------
        ModelError
            If the matrix does not fit, or the model fails. The gateway takes anything else that
            is raised, a score that is not finite, and a call that takes too long as a failure
            of the model too, and falls back.
        """
        ...


class ScorerLoader(Protocol):
    """Turns the bytes of one model format into a scorer.

    ``format`` is ``name/version``. ``waits`` says that its scorers wait for another process, so
    that they are never called where waiting would hold up other requests.
    """

    format: str
    waits: bool

    def load(self, data: bytes, columns: int) -> Scorer:
        """Load a model.

        Called in a thread, once for each new version, with bytes whose digest was verified.
        Loading must not run code that the bytes bring.

        Raises
        ------
        ModelError
            If it is not a model of this format, or takes another number of columns.
        MissingExtra
            If the library it needs is not installed.
        """
        ...

    def column_names(self, data: bytes) -> tuple[str, ...]:
        """Return what the model calls its columns, in order; empty where it does not say.

        Called once, when a model is adopted, with bytes that `load` has accepted.
        """
        ...


def check_matrix(matrix: npt.NDArray[np.float32], columns: int) -> None:
    """Refuse what no scorer of ``columns`` columns can read; called by each before anything else.

    Raises
    ------
    ModelError
        If it is not a C-contiguous float32 matrix of so many columns.
    """
    if (
        matrix.dtype != np.float32
        or matrix.ndim != 2
        or matrix.shape[1] != columns
        or not matrix.flags.c_contiguous
    ):
        raise ModelError(
            f"The model takes a C-ordered float32 matrix of {columns} columns, not {matrix.dtype} "
            f"{matrix.shape}.",
            "Build it with feilun.features.vectors.assemble.",
        )
