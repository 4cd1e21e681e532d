"""Scorers of text classifiers: the class of a row was given its number before, with the matrix.

The network runs in the encoders' process, as encoders do. What is in a bundle names it by its
digest.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from feilun.errors import ModelError, WrongColumns
from feilun.ports.encoder import EncoderSpec
from feilun.ports.scorer import check_matrix

SHOWN = 20
"""How many classes are told of."""


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands for a classifier in a bundle: its digest, and what its numbers are."""

    digest: str
    output: str
    classes: tuple[str, ...]


def describe(digest: str, spec: EncoderSpec) -> bytes:
    """Return the bytes of ``text-classifier/1``.

    Raises
    ------
    ModelError
        If it is an encoder.
    """
    if isinstance(spec.classifier, msgspec.UnsetType):
        raise ModelError(f"{digest[:12]} tells no classes apart: it is an encoder.")
    found = Description(digest, spec.classifier.output, spec.classifier.classes)
    return msgspec.json.format(msgspec.json.encode(found), indent=1)


class ClassifierScorer:
    """Returns the one column that there is; see `feilun.ports.scorer.Scorer`."""

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row; NaN where the text had no vector."""
        check_matrix(matrix, 1)
        return matrix[:, 0].astype(np.float64)


class ClassifierLoader:
    """Loads ``text-classifier/1``; see `feilun.ports.scorer.ScorerLoader`."""

    format = "text-classifier/1"
    waits = False

    def load(self, data: bytes, columns: int) -> ClassifierScorer:
        """Return the scorer of a classifier.

        Raises
        ------
        ModelError
            If the bytes do not describe one.
        """
        _read(data)
        if columns != 1:
            raise WrongColumns(1, columns, ("text",))
        return ClassifierScorer()

    def column_names(self, data: bytes) -> tuple[str, ...]:
        """Return what the column is: the classes as they are called, the first of many."""
        found = _read(data)
        more = f", … ({len(found.classes)})" if len(found.classes) > SHOWN else ""
        return (f"{found.output}: {', '.join(found.classes[:SHOWN])}{more}",)


def _read(data: bytes) -> Description:
    try:
        return msgspec.json.decode(data, type=Description)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"These bytes describe no text classifier: {error}.") from error
