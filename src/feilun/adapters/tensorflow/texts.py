"""Operators of TensorFlow on texts: a number written as one, and the number that stands for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from feilun.adapters.tensorflow.messages import Array, Attributes, dtype_of, texts_of

_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
_WORD = (1 << 64) - 1
_LONGEST = 64


def _as_text(attributes: Attributes, x: Array) -> Array:
    precision = attributes.get("precision", -1)
    if attributes.get("width", -1) != -1 or attributes.get("fill") or not -1 <= precision <= 40:
        raise ValueError("it writes numbers with a width")
    if x.dtype.kind == "b":
        return _each(lambda value: b"true" if value else b"false", x)
    if x.dtype.kind in "iu":
        return _each(lambda value: b"%d" % value, x)
    kind = "e" if attributes.get("scientific") else "g" if attributes.get("shortest") else "f"
    form = f"%.{precision}{kind}" if precision >= 0 else f"%{kind}"
    return _each(lambda value: (form % value).encode(), x)


def _each(change: Callable[[Any], bytes], x: Array) -> Array:
    return texts_of([change(value) for value in x.reshape(-1).tolist()]).reshape(x.shape)


def _join(attributes: Attributes, *inputs: Array) -> Array:
    between = attributes.get("separator", b"")
    spread = np.broadcast_arrays(*inputs)
    lists = [each.reshape(-1).tolist() for each in spread]
    return texts_of([between.join(parts) for parts in zip(*lists, strict=True)]).reshape(
        spread[0].shape
    )


def _to_number(attributes: Attributes, x: Array) -> Array:
    kind = dtype_of(attributes.get("out_type", 1))
    values = [kind.type(text.decode()) for text in x.reshape(-1).tolist()]
    return np.array(values, kind).reshape(x.shape)


def _bucket(attributes: Attributes, x: Array) -> Array:
    count = attributes["num_buckets"]
    found = [fingerprint(text) % count for text in x.reshape(-1).tolist()]
    return np.array(found, np.int64).reshape(x.shape)


@lru_cache(maxsize=1 << 16)
def fingerprint(text: bytes) -> int:
    """Return the 64 bits that FarmHash (``farmhashna::Hash64``) gives for a text.

    Raises
    ------
    ValueError
        If the text has more than 64 bytes.

    Examples
    --------
    >>> fingerprint(b"")
    11160318154034397263
    """
    size = len(text)
    if size > _LONGEST:
        raise ValueError(f"a text of more than {_LONGEST} bytes is hashed")
    factor = _K2 + 2 * size
    if size > 32:
        return _of_long(text, factor)
    if size > 16:
        return _mix(*_ends(text, factor, _K1), factor)
    if size >= 8:
        a, b = _word(text, 0) + _K2, _word(text, size - 8)
        c, d = _turn(b, 37) * factor + a, (_turn(a, 25) + b) * factor
        return _mix(c, d, factor)
    if size >= 4:
        first = int.from_bytes(text[:4], "little")
        last = int.from_bytes(text[-4:], "little")
        return _mix(size + (first << 3), last, factor)
    if size:
        y, z = text[0] + (text[size >> 1] << 8), size + (text[-1] << 2)
        found = (y * _K2 ^ z * _K0) & _WORD
        return (found ^ found >> 47) * _K2 & _WORD
    return _K2


def _of_long(text: bytes, factor: int) -> int:
    size = len(text)
    y, other = _ends(text, factor, _K2)
    z = _mix(y, other, factor)
    e, f = _word(text, 16) * factor, _word(text, 24)
    g, h = (y + _word(text, size - 32)) * factor, (z + _word(text, size - 24)) * factor
    a = _word(text, 0) * _K2
    return _mix(_turn(e + f, 43) + _turn(g, 30) + h, e + _turn(f + a, 18) + g, factor)


def _ends(text: bytes, factor: int, first: int) -> tuple[int, int]:
    """Return two words of the first and the last 16 bytes."""
    a, b = _word(text, 0) * first, _word(text, 8)
    c, d = _word(text, len(text) - 8) * factor, _word(text, len(text) - 16) * _K2
    return _turn(a + b, 43) + _turn(c, 30) + d, a + _turn(b + _K2, 18) + c


def _word(text: bytes, at: int) -> int:
    return int.from_bytes(text[at : at + 8], "little")


def _turn(word: int, bits: int) -> int:
    word &= _WORD
    return (word >> bits | word << 64 - bits) & _WORD


def _mix(u: int, v: int, factor: int) -> int:
    a = (u ^ v) * factor & _WORD
    a ^= a >> 47
    b = ((v ^ a) & _WORD) * factor & _WORD
    b ^= b >> 47
    return b * factor & _WORD


PLAIN: Mapping[str, Callable[..., Any]] = {}
"""Operators without attributes that matter."""
SHAPED: Mapping[str, Callable[..., Any]] = {
    "AsString": _as_text,
    "StringJoin": _join,
    "StringToHashBucketFast": _bucket,
    "StringToNumber": _to_number,
}
"""Operators that take their attributes first."""
