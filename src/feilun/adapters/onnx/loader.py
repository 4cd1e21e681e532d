"""ONNX models through ONNX Runtime, on one thread of the processor."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from feilun.adapters.onnx.graph import check_graph
from feilun.errors import MissingExtra, ModelError
from feilun.ports.scorer import check_matrix

_FLOATS = ("tensor(float)", "tensor(double)")
_MAPS = "seq(map(int64,tensor(float)))"
"""How scikit-learn's converter gives probabilities: a mapping from class to number, a row each."""
_LABELS = ("tensor(int64)", "tensor(string)")
_QUIET = 4


class _Output(NamedTuple):
    """The output that is the score; of two classes, the second's where ``classifies``."""

    name: str
    maps: bool
    classifies: bool


class OnnxScorer:
    """A loaded graph. Thread-safe: a session may run in several threads."""

    def __init__(self, session: Any, columns: int) -> None:
        self._session = session
        self._columns = columns
        self._input = _input(session, columns)
        self._output = _output(session)

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row.

        Raises
        ------
        ModelError
            If the matrix is not float32 of the model's number of columns, the graph fails, or it
            gives something but a number a row.
        """
        check_matrix(matrix, self._columns)
        rows = len(matrix)
        if rows == 0:
            return np.empty(0, np.float64)
        try:
            (found,) = self._session.run([self._output.name], {self._input: matrix})
        except Exception as error:  # ONNX Runtime has a class of its own for each status
            raise ModelError(f"ONNX Runtime could not score: {str(error)[:500]}") from error
        if self._output.maps:
            return _second_of_maps(found)
        if found.shape in ((rows,), (rows, 1)):
            return np.ascontiguousarray(found.reshape(rows), np.float64)
        if self._output.classifies and found.shape == (rows, 2):
            return np.ascontiguousarray(found[:, 1], np.float64)
        raise ModelError(
            f"The output {self._output.name} has the shape {found.shape} for {rows} rows; a "
            "number a row is needed.",
            "Convert a model that is binary, or gives one number; leave the number of rows open.",
        )


class OnnxLoader:
    """Loads ``onnx/1``: an ONNX model in one file."""

    format = "onnx/1"
    waits = False

    def load(self, data: bytes, columns: int) -> OnnxScorer:
        """Load a model with one float input of ``columns`` columns.

        The score is its one output of floats: a number a row, or of two classes' probabilities
        the second's. Its labels are not looked at.

        Raises
        ------
        ModelError
            If it is no such model, or names other files or operators of a library of its own.
        MissingExtra
            If ONNX Runtime is not installed.
        """
        return OnnxScorer(open_session(data, threads=1, extra="onnx"), columns)

    def column_names(self, data: bytes) -> tuple[str, ...]:  # noqa: ARG002  its input is a matrix
        """Return nothing: one input holds all columns."""
        return ()


def open_session(data: bytes, *, threads: int, extra: str) -> Any:
    """Return ONNX Runtime's session of a graph that was checked, on so many threads.

    Raises
    ------
    ModelError
        If it is no sound model, or names other files or operators of a library of its own.
    MissingExtra
        If ONNX Runtime, which ``extra`` brings, is not installed.
    """
    check_graph(data)
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtra("ONNX Runtime", extra) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    options.use_deterministic_compute = True
    try:
        return onnxruntime.InferenceSession(
            data, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has a class of its own for each status
        raise ModelError(
            f"ONNX Runtime refused: {str(error)[:500]}",
            "Check it with onnx.checker.check_model(model, full_check=True).",
        ) from error


def _input(session: Any, columns: int) -> str:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        shown = ", ".join(f"{each.name}: {each.type}" for each in inputs)
        raise ModelError(
            f"The model takes ({shown}); one input of tensor(float) is needed.",
            "Convert it with one input of floats, such as "
            f"initial_types=[('x', FloatTensorType([None, {columns}]))].",
        )
    shape = inputs[0].shape  # a number where it is fixed, a name or None where it is open
    open_rows = len(shape) == 2 and not isinstance(shape[0], int)
    if not open_rows or (isinstance(shape[1], int) and shape[1] != columns):
        raise ModelError(
            f"The model takes an input of shape {shape}, not (any number, {columns}).",
            "Convert it with an open number of rows and a column for each feature, in order.",
        )
    return str(inputs[0].name)


def _output(session: Any) -> _Output:
    outputs = session.get_outputs()
    scores = [each for each in outputs if each.type in (*_FLOATS, _MAPS)]
    if len(scores) != 1:
        shown = ", ".join(f"{each.name}: {each.type}" for each in outputs)
        raise ModelError(
            f"The model gives ({shown}); exactly one output of floats is needed.",
            "Keep the output that is the score, and labels at most.",
        )
    classifies = any(each.type in _LABELS for each in outputs)
    return _Output(scores[0].name, scores[0].type == _MAPS, classifies)


def _second_of_maps(found: Any) -> npt.NDArray[np.float64]:
    classes = sorted(found[0])
    if len(classes) != 2:
        raise ModelError(f"The model tells {len(classes)} classes apart; two can be scored.")
    return np.array([row[classes[1]] for row in found], np.float64)
