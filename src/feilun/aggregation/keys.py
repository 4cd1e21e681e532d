"""Entity keys as bytes, one at a time and by the column.

An int is 8 bytes big-endian with the sign bit flipped, so that bytes sort as numbers do. A str is
its UTF-8 after a 2-byte length. A key of several entities is theirs one after the other; a key of
none is ``b""``. No key is the beginning of another of the same entities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from feilun.aggregation.frames import Array, EventFrame, Int64
from feilun.aggregation.segments import begins, order_of
from feilun.definitions.specs import EntitySpec
from feilun.errors import InputError

MAX_KEY_BYTES = 200
_SIGN = 1 << 63
_INT64_MAX = _SIGN - 1
_INTS = (int, np.integer)
_MANY = 16
"""From so many values on an array encodes them faster."""
_DENSE = 8
"""Ids in a range this many times as long as they are many are found by a table, not by sorting."""


def encode_key(entities: Sequence[EntitySpec], values: Sequence[int | str]) -> bytes:
    """Encode the values of ``entities``, in their order.

    Raises
    ------
    InputError
        If a value has the wrong type, an int is beyond 64 bits, or a str is longer than 200
        bytes in UTF-8 or is not text.

    Examples
    --------
    >>> encode_key((EntitySpec("user", "int"), EntitySpec("city", "str")), (1, "北")).hex(" ")
    '80 00 00 00 00 00 00 01 00 03 e5 8c 97'
    """
    if len(entities) != len(values):
        names = ", ".join(entity.name for entity in entities) or "nothing"
        raise InputError(f"A key of {names} needs {len(entities)} values, not {len(values)}.")
    return b"".join([encode_value(*pair) for pair in zip(entities, values, strict=True)])


def encode_values(
    entity: EntitySpec, values: Sequence[int | str], before: bytes = b"", after: bytes = b""
) -> list[bytes]:
    """Encode many values of one entity, each as `encode_key` does, between two strings of bytes.

    Raises
    ------
    InputError
        As `encode_key` does.
    """
    if entity.dtype == "int" and len(values) >= _MANY and set(map(type, values)) == {int}:
        try:
            numbers = np.array(values, np.int64)
        except OverflowError:
            pass  # one of them is too large, and is named below
        else:
            return _encode_numbers(numbers, before, after)
    return [before + encode_value(entity, value) + after for value in values]


def _encode_numbers(numbers: Int64, before: bytes = b"", after: bytes = b"") -> list[bytes]:
    raw = (numbers.view(np.uint64) ^ np.uint64(_SIGN)).astype(">u8")
    begin, end = len(before), len(before) + raw.itemsize
    keys = np.empty((len(raw), end + len(after)), np.uint8)
    keys[:, :begin] = np.frombuffer(before, np.uint8)
    keys[:, begin:end] = raw.view(np.uint8).reshape(len(raw), raw.itemsize)
    keys[:, end:] = np.frombuffer(after, np.uint8)
    found: list[bytes] = keys.view(f"V{keys.shape[1]}").ravel().tolist()
    return found


def encode_value(entity: EntitySpec, value: object) -> bytes:
    """Encode the value of one entity. Raises as `encode_key` does."""
    if entity.dtype == "int":
        if type(value) is not int and (isinstance(value, bool) or not isinstance(value, _INTS)):
            raise InputError(f"{entity.name} must be an int, not {type(value).__name__}.")
        try:
            return (int(value) + _SIGN).to_bytes(8, "big")
        except OverflowError as error:
            message = f"{entity.name} must fit in 64 bits; {value} does not."
            raise InputError(message) from error
    if not isinstance(value, str):
        raise InputError(f"{entity.name} must be a str, not {type(value).__name__}.")
    try:
        text = value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{entity.name} is not valid Unicode text: {error.reason}.") from error
    if len(text) > MAX_KEY_BYTES:
        raise InputError(
            f"{entity.name} is {len(text)} bytes long.", f"A key has at most {MAX_KEY_BYTES}."
        )
    return len(text).to_bytes(2, "big") + text


def group_keys(entities: Sequence[EntitySpec], events: EventFrame) -> tuple[list[bytes], Int64]:
    """Return the distinct keys of ``events``, in the order of their bytes, and each event's place.

    Every event must have every key column. Only distinct values are encoded.
    """
    if not len(events):
        return [], np.empty(0, np.int64)
    if not entities:
        return [b""], np.zeros(len(events), np.int64)
    columns = [_group_column(entity, events.columns[entity.name].values) for entity in entities]
    keys, codes = columns[0]
    for parts, places in columns[1:]:
        pairs, codes = _factorise(codes * len(parts) + places)
        before, after = np.divmod(pairs, len(parts))
        keys = [keys[i] + parts[j] for i, j in zip(before.tolist(), after.tolist(), strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return [keys[i] for i in order], place[codes]


def match_keys(
    entities: Sequence[EntitySpec],
    events: EventFrame,
    asked: Mapping[str, Sequence[int | str] | Array],
    size: int,
) -> tuple[Int64, Int64]:
    """Return a number for the key of each event and of each query: equal keys, equal numbers.

    Every event must have every key column. A query about a key that no event has gets -1.

    Parameters
    ----------
    entities : sequence of EntitySpec
        What makes a key.
    events : EventFrame
        The events.
    asked : mapping
        The value of each entity, one a query.
    size : int
        How many queries there are.
    """
    codes, found = np.zeros(len(events), np.int64), np.zeros(size, np.int64)
    if not len(events):
        return codes, found - 1
    most = 0
    for entity in entities:
        values = events.columns[entity.name].values
        match = _match_numbers if entity.dtype == "int" else _match_texts
        places, wanted, count = match(values, asked[entity.name])
        if not most:
            codes, found, most = places, wanted, count
            continue
        if most * count > _INT64_MAX:
            distinct, codes = _factorise(codes)
            found, most = _find(distinct, found), len(distinct)
        codes = codes * count + places
        found = np.where((found >= 0) & (wanted >= 0), found * count + wanted, -1)
        most *= count
    if len(entities) > 1:  # pairs are far fewer than all that there could be
        distinct, codes = _factorise(codes)
        found = _find(distinct, found)
    return codes, found


def _match_numbers(values: Int64, asked: Any) -> tuple[Int64, Int64, int]:
    wanted = np.asarray(asked, np.int64)
    lowest, highest = int(values.min()), int(values.max())
    first = 0 if lowest >= 0 and highest < len(values) else lowest
    if highest - first < len(values):  # then ids are as good as places
        inside = (wanted >= first) & (wanted <= highest)
        places = values - first if first else values
        return places, np.where(inside, wanted - first, -1), highest - first + 1
    distinct, places = _factorise(values)
    return places, _find(distinct, wanted), len(distinct)


def _match_texts(values: Array, asked: Any) -> tuple[Int64, Int64, int]:
    texts = values.tolist()
    known = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    places = np.fromiter(map(known.__getitem__, texts), np.int64, len(texts))
    wanted = np.fromiter((known.get(text, -1) for text in asked), np.int64, len(asked))
    return places, wanted, len(known)


def _find(distinct: Int64, wanted: Int64) -> Int64:
    """Return the place of each wanted number among distinct ascending ones; -1 where not there."""
    places = np.searchsorted(distinct, wanted)
    places[places == len(distinct)] = 0
    return np.where(distinct[places] == wanted, places, -1)


def _group_column(entity: EntitySpec, values: Array) -> tuple[list[bytes], Int64]:
    if entity.dtype == "int":
        numbers, places = _factorise(values)
        return _encode_numbers(numbers), places
    texts = values.tolist()
    known = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    places = np.fromiter(map(known.__getitem__, texts), np.int64, len(texts))
    return [encode_value(entity, text) for text in known], places


def _factorise(values: Int64) -> tuple[Int64, Int64]:
    """Return the distinct values, ascending, and the place of each."""
    lowest = int(values.min())
    span = int(values.max()) - lowest + 1
    if span <= _DENSE * len(values):  # as ids that were given one after the other are
        shifted = values - lowest
        seen = np.zeros(span, np.bool_)
        seen[shifted] = True
        return seen.nonzero()[0] + lowest, (seen.cumsum() - 1)[shifted]
    fits = span <= _INT64_MAX
    order = order_of(values - lowest) if fits else values.argsort(kind="stable")
    ascending = values[order]
    first = begins(ascending)
    places = np.empty(len(values), np.int64)
    places[order] = first.cumsum() - 1
    return ascending[first], places
