"""Encoders as ONNX graphs, as ``optimum-cli export onnx`` writes them."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from feilun.adapters.onnx import open_session
from feilun.errors import ModelError

_INPUTS = {"input_ids", "attention_mask", "token_type_ids", "position_ids"}
_READY = "sentence_embedding"
_TOKENS = ("last_hidden_state", "token_embeddings")
_CLASSES = "logits"


class GraphNetwork:
    """A graph of ``input_ids`` and ``attention_mask``.

    Parameters
    ----------
    data : bytes
        The graph.
    classifies : bool
        Whether it gives a number for each class of a text; else vectors.

    Raises
    ------
    ModelError
        If it takes or gives something else.
    MissingExtra
        If ONNX Runtime is not installed.
    """

    def __init__(self, data: bytes, *, classifies: bool = False) -> None:
        self._task = "text-classification" if classifies else "feature-extraction"
        threads = max(1, (os.cpu_count() or 1) // 2)  # the gateway needs the others
        self._session = open_session(data, threads=threads, extra="encoders")
        inputs = {each.name: each.type for each in self._session.get_inputs()}
        right = "input_ids" in inputs and inputs.keys() <= _INPUTS
        if not right or any(kind != "tensor(int64)" for kind in inputs.values()):
            shown = ", ".join(f"{name}: {kind}" for name, kind in inputs.items())
            raise ModelError(
                f"The graph takes ({shown}), not input_ids and attention_mask as int64.",
                f"Export it with --task {self._task}.",
            )
        self._inputs = inputs.keys()
        self._output = self._find_output()

    def _find_output(self) -> str:
        names = [each.name for each in self._session.get_outputs() if "float" in each.type]
        classifies = self._task == "text-classification"
        for name in (_CLASSES,) if classifies else (_READY, *_TOKENS):
            if name in names:
                return name
        if len(names) != 1:
            raise ModelError(
                f"The graph gives ({', '.join(names)}), and none is called "
                f"{_CLASSES if classifies else _TOKENS[0]}.",
                f"Export it with --task {self._task}.",
            )
        return str(names[0])

    def run(
        self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return a vector for each token or text, or a number for each class of a text."""
        given = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
            "position_ids": np.broadcast_to(np.arange(ids.shape[1]), ids.shape).copy(),
        }
        try:
            (found,) = self._session.run(
                [self._output], {name: given[name] for name in self._inputs}
            )
        except Exception as error:  # ONNX Runtime has a class of its own for each status
            raise ModelError(f"ONNX Runtime could not encode: {str(error)[:500]}") from error
        return np.asarray(found, np.float32)
