"""Durations, windows and hops: how the text in a definition becomes microseconds.

A duration is a whole number and a unit: ``30s``, ``5m``, ``12h``, ``7d``, ``2w``. A window is a
duration (the last that long, up to the moment of the read) or ``"7 calendar days"`` (today
and the six days before, from midnight in the project's time zone); ``"today"`` is short for
``"1 calendar day"``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from feilun.clock import DAY, HOUR, MINUTE, SECOND
from feilun.i18n import _

UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
LONGEST = 3660 * DAY
"""No window, hop or ttl is longer than ten years."""

MAX_TILES = 512
"""A read merges at most that many tiles a window."""

MAX_KEY_BYTES = 64 << 10
"""The most bytes of a key that one feature may need for tiles of vectors."""

_DURATION_FORM = "a whole number and s, m, h, d or w, such as 12h or 30d"
_WINDOW_FORM = f'Write {_DURATION_FORM}; or "today", or "7 calendar days".'
_ROUND_HOPS = ("1m", "5m", "15m", "30m", "1h", "2h", "6h", "12h", "1d", "2d", "7d", "14d")
_DURATION = re.compile(r"([1-9][0-9]*)([smhdw])")
_CALENDAR = re.compile(r"today|1 calendar day|([2-9]|[1-9][0-9]+) calendar days")


class Window(NamedTuple):
    """How far back a read looks, in µs; ``calendar`` counts local days, 0 if it slides."""

    length: int
    calendar: int = 0


class WindowError(ValueError):
    """A text that is no duration, or a hop that does not suit its window."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what} {fix}")
        self.what = what
        self.fix = fix


def parse_duration(text: object) -> int:
    """Return a duration in µs.

    Raises
    ------
    WindowError
        If it is not one.

    Examples
    --------
    >>> parse_duration("5m")
    300000000
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise WindowError(
            _("{text} is not a duration.", text=repr(text)),
            _("Write a whole number and s, m, h, d or w, such as 12h or 30d."),
        )
    length = int(match[1]) * UNITS[match[2]] if len(match[1]) < 12 else LONGEST + 1
    if length > LONGEST:
        raise WindowError(
            _("{text} is longer than ten years.", text=repr(text)),
            _("Leave it out for all time."),
        )
    return length


def parse_window(text: object) -> Window:
    """Return a window.

    Raises
    ------
    WindowError
        If it is not one.

    Examples
    --------
    >>> parse_window("today")
    Window(length=86400000000, calendar=1)
    >>> parse_window("7 calendar days").calendar
    7
    """
    if not isinstance(text, str) or not (_DURATION.fullmatch(text) or _CALENDAR.fullmatch(text)):
        raise WindowError(f"{text!r} is not a window.", _WINDOW_FORM)
    match = _CALENDAR.fullmatch(text)
    if match is None:
        return Window(parse_duration(text))
    digits = match[1] or "1"
    days = int(digits) if len(digits) < 6 else MAX_TILES + 1
    if days > MAX_TILES:
        raise WindowError(f"{text!r} is more than {MAX_TILES} days.", "Use a sliding window.")
    return Window(days * DAY, days)


def default_hop(window: int) -> int:
    """Return the tile width for a sliding window: a twelfth of it, rounded down.

    It divides a day, in whole seconds where there are 12 of them, and is at most 5 minutes for
    windows below 12 hours, 1 hour below 12 days, 1 day beyond.

    Examples
    --------
    >>> [default_hop(window) // SECOND for window in (HOUR, 12 * HOUR, 7 * DAY, 30 * DAY)]
    [300, 3600, 3600, 86400]
    """
    largest = 5 * MINUTE if window < 12 * HOUR else HOUR if window < 12 * DAY else DAY
    unit = SECOND if window >= 12 * SECOND else 1
    units_a_day = DAY // unit
    hop = min(window // 12, largest) // unit
    while units_a_day % hop:
        hop -= 1
    return hop * unit


def check_hop(window: int, hop: int) -> None:
    """Refuse a tile width that does not suit its window.

    Raises
    ------
    WindowError
        If it is longer than the window, does not divide a day, or makes too many tiles.
    """
    if hop > window:
        raise WindowError("The hop is longer than the window.", "Choose a shorter hop.")
    if DAY % hop and hop % DAY:
        raise WindowError(
            "The hop neither divides a day nor is whole days.", "Write 5m, 1h, 6h, 1d or such."
        )
    tiles = -(-window // hop)
    if tiles > MAX_TILES:
        raise WindowError(
            f"The window needs {tiles} tiles, and {MAX_TILES} are allowed.",
            f'Write hop="{_shortest_hop(window)}", or a longer one.',
        )


def check_vectors(window: int, hop: int, dim: int) -> None:
    """Refuse so many tiles of vectors that one key would be slow to read.

    Raises
    ------
    WindowError
        If the tiles of one key have more than ``MAX_KEY_BYTES``.
    """
    tiles = -(-window // hop) + 1 if hop else 1
    size = tiles * 8 * (dim + 2)  # a tile has its time and how many vectors it holds
    if size > MAX_KEY_BYTES:
        fitting = MAX_KEY_BYTES // (8 * (dim + 2))
        raise WindowError(
            f"{tiles} tiles of vectors of {dim} numbers are {size >> 10} KB a key, and "
            f"{MAX_KEY_BYTES >> 10} KB are allowed.",
            f"Choose a longer hop=, so that there are at most {fitting} tiles, or a shorter window."
            if fitting
            else "Store shorter vectors.",
        )


def _shortest_hop(window: int) -> str:
    """Return the shortest round hop that makes no more than MAX_TILES tiles."""
    fitting = (hop for hop in _ROUND_HOPS if -(-window // parse_duration(hop)) <= MAX_TILES)
    return next(fitting)
