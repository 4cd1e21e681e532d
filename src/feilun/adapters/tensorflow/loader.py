"""SavedModels of TensorFlow, run in a worker, which alone parses their graphs."""

from __future__ import annotations

import sys

from feilun.adapters.tensorflow.signature import WAY, names_of, read_inputs
from feilun.adapters.worker import WorkerScorer
from feilun.errors import ModelError

_WORKER = (sys.executable, "-I", "-m", "feilun.adapters.tensorflow.worker")


class SavedModelLoader:
    """Loads ``saved-model/1``: what ``model.export(FOLDER)`` or ``tf.saved_model.save`` writes."""

    format = "saved-model/1"
    waits = True

    def load(self, data: bytes, columns: int) -> WorkerScorer:
        """Load a model of ``columns`` columns in a worker.

        Raises
        ------
        WrongColumns
            If it takes another number of columns.
        ModelError
            If it is no such model, calls anything but the operators that are known, or cannot
            score two rows.
        """
        read_inputs(data, columns)
        try:
            return WorkerScorer(_WORKER, data, columns)
        except ModelError as error:
            raise ModelError(error.message, WAY) from error

    def column_names(self, data: bytes) -> tuple[str, ...]:
        """Return the names of its inputs, each as often as it takes columns.

        Nothing where one input takes them all.
        """
        return names_of(read_inputs(data, None))
