"""The worker that runs SavedModels: one process, one thread, its memory bounded."""

from __future__ import annotations

import resource
import sys

import numpy as np
import numpy.typing as npt

from feilun.adapters.tensorflow.saved_model import SavedModel, read_saved_model, score
from feilun.adapters.worker import serve

MAX_MEMORY = 4 << 30
"""The most bytes of addresses the process may have; beyond them a model is refused, or fails."""


class SavedModelScorer:
    """Runs a model's plan."""

    def __init__(self, model: SavedModel) -> None:
        self._model = model

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row.

        Raises
        ------
        ModelError
            If the model fails, or its output is something else.
        """
        return score(self._model, matrix)


def load(data: bytes, columns: int) -> SavedModelScorer:
    """Load a model, and score two rows: what they meet is not known before."""
    scorer = SavedModelScorer(read_saved_model(data, columns))
    scorer.score(np.zeros((2, columns), np.float32))
    return scorer


if __name__ == "__main__":
    if sys.platform == "linux":  # elsewhere such a bound is not kept
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    serve(load)
