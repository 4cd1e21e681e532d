"""The record of a turn as rows for people: what there is of it, times as times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from feilun.clock import to_iso

_TIMES = frozenset({"started", "ended", "holdout_from"})
"""The parts of a record that are times, µs UTC."""


def turn_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of a turn, a row for each part: ``data.requests``.

    Examples
    --------
    >>> turn_rows({"turn": 3, "ended": 0, "skew": None, "data": {"offsets": [0, 9], "rows": 7}})
    [('ended', '1970-01-01T00:00:00'), ('data.offsets', '0, 9'), ('data.rows', '7')]
    >>> turn_rows({"reason": "", "interval": {"low": -0.12345678}, "seconds": {"train": 2.0}})
    [('interval.low', '-0.123457'), ('seconds.train', '2.0')]
    """
    return [(name, text) for name, text in _parts("", record) if name != "turn" and text]


def _parts(before: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _parts(f"{before}{name}.", value)
        elif name == "release":
            yield f"{before}{name}", str(value[0])  # its number; feilun history has the rest
        else:
            yield f"{before}{name}", _text(name, value)


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _TIMES:
        return to_iso(value)[:19]
    if isinstance(value, float):
        return repr(float(f"{value:.6g}"))
    if isinstance(value, list | tuple):
        return ", ".join(_text("", each) for each in value)
    return str(value)
