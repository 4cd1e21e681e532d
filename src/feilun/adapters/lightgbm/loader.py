"""LightGBM models through LightGBM's own C library: no Python package is imported.

The package ``lightgbm`` takes seconds to import and pulls pandas and scikit-learn in where they
are installed; its shared library loads in a moment and has all that scoring needs. Source of the
signatures: ``include/LightGBM/c_api.h`` of LightGBM 4.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from functools import cache

import numpy as np
import numpy.typing as npt

from feilun.adapters.lightgbm.text import check_model_text, column_names
from feilun.adapters.shared_library import open_library
from feilun.errors import ModelError
from feilun.ports.scorer import check_matrix

_FLOAT32 = 0
_NORMAL = 0  # the prediction after the objective's link function, as Booster.predict gives it
_FROM_FIRST, _ALL = 0, -1
_ROW_MAJOR = 1
_PARAMETERS = b"num_threads=1"
_QUICK_TREES = 1_000
"""A row goes through so many trees quickly enough for others to wait for the interpreter."""


class LightGbmScorer:
    """A loaded booster. Thread-safe: LightGBM predicts under a shared lock."""

    def __init__(
        self, library: ctypes.CDLL, handle: ctypes.c_void_p, columns: int, trees: int
    ) -> None:
        self._library = library
        self._handle = handle
        self._columns = columns
        weakref.finalize(self, library.LGBM_BoosterFree, handle)
        self._one = _OneRow(library, handle, columns, keep=trees <= _QUICK_TREES)
        weakref.finalize(self, library.LGBM_FastConfigFree, self._one.handle)  # is called first

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row, equal to the bit to what ``Booster.predict`` returns.

        Raises
        ------
        ModelError
            If the matrix is not C-contiguous float32 of the model's number of columns.
        """
        check_matrix(matrix, self._columns)
        rows = len(matrix)
        if rows == 1:
            return self._one.score(matrix)
        scores = np.empty(rows, np.float64)
        if rows == 0:
            return scores
        written = ctypes.c_int64()
        _check(
            self._library,
            self._library.LGBM_BoosterPredictForMat(
                self._handle, matrix.ctypes.data, _FLOAT32, rows, self._columns, _ROW_MAJOR,
                _NORMAL, _FROM_FIRST, _ALL, _PARAMETERS, ctypes.byref(written), scores.ctypes.data,
            ),
        )  # fmt: skip
        if written.value != rows:
            raise ModelError(f"The model gave {written.value} scores for {rows} rows.")
        return scores


class _OneRow:
    """Scores rows one at a time, each in a tenth of the time that the call for many takes.

    LightGBM keeps what such a call needs, so two at once must not share it. ``keep``: keep the
    interpreter's lock meanwhile. To hand it to another thread and get it back takes longer than
    most models do.
    """

    def __init__(
        self, library: ctypes.CDLL, booster: ctypes.c_void_p, columns: int, *, keep: bool
    ) -> None:
        self._library = library
        self.handle = ctypes.c_void_p()
        self._lock = threading.Lock()
        _check(
            library,
            library.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster, _NORMAL, _FROM_FIRST, _ALL, _FLOAT32, columns, _PARAMETERS,
                ctypes.byref(self.handle),
            ),
        )  # fmt: skip
        self._score = library.LGBM_BoosterPredictForMatSingleRowFast
        if keep:
            keeping = ctypes.PyDLL(library._name, handle=library._handle)
            keeping.LGBM_BoosterPredictForMatSingleRowFast.argtypes = self._score.argtypes
            self._score = keeping.LGBM_BoosterPredictForMatSingleRowFast
        # To ask an array for its address takes as long as half of the trees.
        self._scores = np.empty(1, np.float64)
        self._written = ctypes.c_int64()
        self._to = (ctypes.byref(self._written), self._scores.ctypes.data)

    def score(self, row: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        with self._lock:
            code = self._score(self.handle, row.tobytes(), *self._to)
            written, scores = self._written.value, self._scores.copy()
        _check(self._library, code)
        if written != 1:
            raise ModelError(f"The model gave {written} scores for a row.")
        return scores


class LightGbmLoader:
    """Loads ``lightgbm-text/1``: what ``Booster.model_to_string`` writes."""

    format = "lightgbm-text/1"
    waits = False

    def load(self, data: bytes, columns: int) -> LightGbmScorer:
        """Load a model that takes ``columns`` columns and gives one number a row.

        The text's structure is checked in Python first, because LightGBM's parser trusts it: a
        child that points outside its tree would be followed.

        Raises
        ------
        ModelError
            If it is no LightGBM model, is cut or changed, or takes another number of columns.
        MissingExtra
            If LightGBM is not installed.
        """
        check_model_text(data, columns)
        library = _library()
        handle, iterations = ctypes.c_void_p(), ctypes.c_int()
        _check(
            library,
            library.LGBM_BoosterLoadModelFromString(
                data, ctypes.byref(iterations), ctypes.byref(handle)
            ),
        )
        scorer = LightGbmScorer(library, handle, columns, iterations.value)
        found, classes = ctypes.c_int(), ctypes.c_int()
        _check(library, library.LGBM_BoosterGetNumFeature(handle, ctypes.byref(found)))
        _check(library, library.LGBM_BoosterGetNumClasses(handle, ctypes.byref(classes)))
        if (found.value, classes.value) != (columns, 1):
            raise ModelError(
                f"The model takes {found.value} columns and gives {classes.value} numbers a row; "
                f"its bundle says {columns} and 1."
            )
        return scorer

    def column_names(self, data: bytes) -> tuple[str, ...]:
        """Return the names in the text's header; empty where LightGBM made them up."""
        return column_names(data)


def _check(library: ctypes.CDLL, code: int) -> None:
    if code != 0:
        reason = library.LGBM_GetLastError().decode("utf-8", "replace").strip()
        raise ModelError(f"LightGBM refused: {reason[:500]}", "Train the model again.")


@cache
def _library() -> ctypes.CDLL:
    """Load the shared library that the ``lightgbm`` package brings, and declare its functions."""
    library = open_library("lightgbm", "lib_lightgbm", name="LightGBM", extra="models")
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    library.LGBM_BoosterLoadModelFromString.argtypes = [ctypes.c_char_p, pointer, pointer]
    library.LGBM_BoosterGetNumFeature.argtypes = [pointer, pointer]
    library.LGBM_BoosterGetNumClasses.argtypes = [pointer, pointer]
    library.LGBM_BoosterFree.argtypes = [pointer]
    library.LGBM_BoosterPredictForMat.argtypes = [
        pointer, pointer, number, ctypes.c_int32, ctypes.c_int32, number, number, number, number,
        ctypes.c_char_p, pointer, pointer,
    ]  # fmt: skip
    library.LGBM_BoosterPredictForMatSingleRowFastInit.argtypes = [
        pointer, number, number, number, number, ctypes.c_int32, ctypes.c_char_p, pointer,
    ]  # fmt: skip
    library.LGBM_BoosterPredictForMatSingleRowFast.argtypes = [pointer] * 4
    library.LGBM_FastConfigFree.argtypes = [pointer]
    return library
