"""XGBoost models through XGBoost's own C library: no Python package is imported.

The package ``xgboost`` takes seconds to import with what it pulls in. Source of the signatures:
``include/xgboost/c_api.h`` of XGBoost 3.
"""

from __future__ import annotations

import ctypes
import json
import weakref
from functools import cache

import numpy as np
import numpy.typing as npt

from feilun.adapters.shared_library import open_library
from feilun.adapters.xgboost.document import column_names, read_model
from feilun.errors import ModelError
from feilun.ports.scorer import check_matrix

_PREDICTION = 0  # after the objective's link function, as Booster.predict gives it


class XgboostScorer:
    """A loaded booster. Thread-safe, as XGBoost's prediction with trees is."""

    def __init__(
        self, library: ctypes.CDLL, handle: ctypes.c_void_p, columns: int, rounds: int
    ) -> None:
        self._library = library
        self._handle = handle
        self._columns = columns
        # NaN is how XGBoost's own JSON writes what stands for missing.
        self._settings = (
            f'{{"type": {_PREDICTION}, "training": false, "iteration_begin": 0, '
            f'"iteration_end": {rounds}, "missing": NaN, "strict_shape": false, "cache_id": 0}}'
        ).encode()
        weakref.finalize(self, library.XGBoosterFree, handle)

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row, equal to the bit to what scikit-learn's ``predict`` computes.

        Raises
        ------
        ModelError
            If the matrix is not C-contiguous float32 of the model's number of columns.
        """
        check_matrix(matrix, self._columns)
        rows = len(matrix)
        if rows == 0:
            return np.empty(0, np.float64)
        array = json.dumps(
            {
                "data": [matrix.ctypes.data, True],
                "shape": matrix.shape,
                "typestr": "<f4",
                "version": 3,
            }
        ).encode()
        shape, dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        scores = ctypes.POINTER(ctypes.c_float)()
        _check(
            self._library,
            self._library.XGBoosterPredictFromDense(
                self._handle, array, self._settings, None, ctypes.byref(shape),
                ctypes.byref(dimensions), ctypes.byref(scores),
            ),
        )  # fmt: skip
        found = tuple(shape[place] for place in range(dimensions.value))
        if found not in ((rows,), (rows, 1)):
            raise ModelError(f"The model gave numbers of shape {found} for {rows} rows.")
        # The library keeps the memory, for this thread's next call: copied here.
        return np.ctypeslib.as_array(scores, (rows,)).astype(np.float64)


class XgboostLoader:
    """Loads ``xgboost/1``: what ``Booster.save_model`` writes as ``.ubj`` or ``.json``."""

    format = "xgboost/1"
    waits = False

    def load(self, data: bytes, columns: int) -> XgboostScorer:
        """Load a model of trees that takes ``columns`` columns and gives one number a row.

        The library sees a document written anew from what was checked, because it would trust the
        file. NaN is missing.

        Raises
        ------
        ModelError
            If it is no such model, is cut or changed, or takes another number of columns.
        MissingExtra
            If XGBoost is not installed.
        """
        model = read_model(data, columns)
        library = _library()
        handle = ctypes.c_void_p()
        _check(library, library.XGBoosterCreate(None, 0, ctypes.byref(handle)))
        scorer = XgboostScorer(library, handle, columns, model.rounds)
        _check(library, library.XGBoosterLoadModelFromBuffer(handle, model.json, len(model.json)))
        _check(library, library.XGBoosterSetParam(handle, b"nthread", b"1"))
        # The booster finishes its set-up at its first prediction, which threads must not share.
        scorer.score(np.zeros((1, columns), np.float32))
        return scorer

    def column_names(self, data: bytes) -> tuple[str, ...]:
        """Return the names that the model was trained with."""
        return column_names(data)


def _check(library: ctypes.CDLL, code: int) -> None:
    if code != 0:
        reason = library.XGBGetLastError().decode("utf-8", "replace").strip()
        raise ModelError(
            f"XGBoost refused: {reason[:500]}", "Write it with booster.save_model('model.ubj')."
        )


@cache
def _library() -> ctypes.CDLL:
    """Load the shared library that the ``xgboost`` package brings, and declare its functions."""
    library = open_library("xgboost", "libxgboost", name="XGBoost", extra="xgboost")
    pointer, size = ctypes.c_void_p, ctypes.c_uint64
    library.XGBGetLastError.restype = ctypes.c_char_p
    library.XGBoosterCreate.argtypes = [pointer, size, pointer]
    library.XGBoosterFree.argtypes = [pointer]
    library.XGBoosterLoadModelFromBuffer.argtypes = [pointer, ctypes.c_char_p, size]
    library.XGBoosterSetParam.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p]
    library.XGBoosterPredictFromDense.argtypes = [
        pointer, ctypes.c_char_p, ctypes.c_char_p, pointer, pointer, pointer, pointer,
    ]  # fmt: skip
    library.XGBSetGlobalConfig.argtypes = [ctypes.c_char_p]
    _check(library, library.XGBSetGlobalConfig(b'{"verbosity": 0}'))
    return library
