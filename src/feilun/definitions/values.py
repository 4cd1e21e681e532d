"""Which Python values a field keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from feilun.definitions.specs import DType, FieldSpec

_INT64 = range(-(2**63), 2**63)


def checked_value(spec: FieldSpec, value: Any) -> Any:
    """Return ``value`` as the field keeps it.

    Raises
    ------
    ValueError
        If it cannot; the message says what is wrong, without the field's name.
    """
    if value is None:
        if spec.optional:
            return None
        raise ValueError(f"must be {spec.dtype}, not None")
    if spec.dtype == "vector":
        return _vector(value, spec.dim)
    return _CHECKS[spec.dtype](value)


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be int, not {value!r}")
    if value not in _INT64:
        raise ValueError("must fit in 64 bits")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be float, not {value!r}")
    if isinstance(value, int):
        return float(_int(value))
    if not math.isfinite(value):
        raise ValueError(f"must be finite, not {value!r}")
    return float(value)


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be str, not {value!r}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must be text that UTF-8 can write")
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be bool, not {value!r}")
    return value


def _vector(value: Any, dim: int) -> tuple[float, ...]:
    given = value
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise ValueError(f"must be a list of {dim} numbers, not {value!r}")
    numbers = tuple(_float(number) for number in given)
    if len(numbers) != dim:
        raise ValueError(f"must have {dim} numbers, not {len(numbers)}")
    return numbers


_CHECKS: dict[DType, Callable[[Any], Any]] = {
    "int": _int,
    "float": _float,
    "str": _str,
    "bool": _bool,
}
