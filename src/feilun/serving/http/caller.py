"""Who sent a request."""

from __future__ import annotations

from typing import NamedTuple

from feilun.ports.teams import Team


class Caller(NamedTuple):
    """Who calls: a team by one of its keys, or (``team`` is None) whoever has this machine."""

    key: str
    team: Team | None


LOCAL = Caller("local", None)
"""Whoever has this machine's token."""
ANYBODY = Caller("", None)
"""A program of this machine without a key, while none is asked for."""
