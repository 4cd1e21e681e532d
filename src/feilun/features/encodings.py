"""Vectors of texts: which texts must be encoded for some rows, and the columns made of the vectors.

A text classifier's vector has a number for each class, and a row about a class has its number.

The gateway and training both call these, so that the same text is encoded wherever it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from feilun.aggregation.frames import Column, Float32
from feilun.definitions.specs import ClassSpec, EncodingSpec, Readable
from feilun.ports.encoder import Encoders

MAX_CHARACTERS = 20_000
"""What is read of a text; encoders take far fewer tokens."""
BATCH = 8
"""How many texts training hands over at once: few, for requests wait behind them."""


class Text(NamedTuple):
    """A text, and the version of the encoder that is to encode it."""

    encoder: str
    text: str


Vectors = Mapping[Text, Float32]
"""Vectors by text; what could not be encoded is not there."""


def texts_of(encodings: Iterable[EncodingSpec], columns: Mapping[str, Column]) -> list[Text]:
    """Return what must be encoded, each once, in the order of the rows."""
    found: dict[Text, None] = {}
    for each in encodings:
        texts = _texts(each, columns)
        found.update((Text(each.digest, text), None) for text in texts if text is not None)
    return list(found)


def encoded(
    encodings: Iterable[EncodingSpec], columns: Mapping[str, Column], vectors: Vectors
) -> dict[str, Column]:
    """Return the vectors of texts as columns, by address.

    Parameters
    ----------
    encodings : iterable of EncodingSpec
        What to make.
    columns : mapping
        Address to column of their texts, of one length, or of length 1 for all rows alike.
    vectors : mapping
        The vectors of the texts. A row is missing where its text is, or has no vector.
    """
    found = {}
    for each in encodings:
        texts = _texts(each, columns)
        values = np.zeros((len(texts), each.dim), np.float32)
        present = np.zeros(len(texts), np.bool_)
        for row, text in enumerate(texts):
            vector = None if text is None else vectors.get(Text(each.digest, text))
            if vector is not None and len(vector) == each.dim:
                values[row], present[row] = vector, True
        found[each.address] = Column(values, present)
    return found


def row_columns(wanted: Iterable[Readable], items: Sequence[Any]) -> dict[str, Column]:
    """Return which class each row is about, where a classifier's number is wanted, by address."""
    names = {each.rows for each in wanted if isinstance(each, ClassSpec) and each.item}
    values = np.array(list(items), object)
    return {name: Column(values, np.ones(len(values), np.bool_)) for name in names}


def class_column(wanted: ClassSpec, columns: Mapping[str, Column]) -> Column:
    """Return what a classifier gives the class of each row; 0 for one that it does not know.

    Parameters
    ----------
    wanted : ClassSpec
        What to make.
    columns : mapping
        Address to column of its encoding, and of its rows; of one length, or of length 1.
    """
    numbers = columns[wanted.encoding.address]
    if not wanted.item:
        return Column(numbers.values[:, 0], numbers.present)
    places = {name: place for place, name in enumerate(wanted.classes)}
    found = np.array([places.get(each, -1) for each in columns[wanted.rows].values], np.int64)
    values = np.broadcast_to(numbers.values, (len(found), len(wanted.classes)))
    chosen = values[np.arange(len(found)), found]
    present = np.broadcast_to(numbers.present, len(found))
    return Column(np.where(found < 0, np.float32(0.0), chosen), present)


def vectors_of(
    encodings: Sequence[EncodingSpec], columns: Mapping[str, Column], encoders: Encoders
) -> Vectors:
    """Encode every text in ``columns``, now, and return their vectors.

    Raises
    ------
    Unavailable, ModelError
        If an encoder cannot be reached or fails: what is trained on is whole.
    """
    wanted: dict[str, list[str]] = {}
    for each in texts_of(encodings, columns):
        wanted.setdefault(each.encoder, []).append(each.text)
    vectors: dict[Text, Float32] = {}
    for digest, texts in wanted.items():
        for start in range(0, len(texts), BATCH):
            part = texts[start : start + BATCH]
            rows = encoders.encode(digest, part)
            vectors.update((Text(digest, text), row) for text, row in zip(part, rows, strict=True))
    return vectors


def _texts(each: EncodingSpec, columns: Mapping[str, Column]) -> list[str | None]:
    """Return the text of each row; None where there is none."""
    column = columns[each.text.address]
    there = column.present if each.text.default is None else np.ones_like(column.present)
    return [
        str(text)[:MAX_CHARACTERS] if is_there else None
        for text, is_there in zip(column.values.tolist(), there.tolist(), strict=True)
    ]
