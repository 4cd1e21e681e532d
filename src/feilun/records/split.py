"""The split: which units of a rollout get the challenger.

Anyone can recompute it. A unit's place is the first 53 bits of BLAKE2b-64 of ``salt NUL unit`` in
UTF-8, as a number in [0, 1); it gets the challenger if its place is below ``percent / 100``. So a
unit keeps its place while the percentage grows, and has another one in the next rollout, which
has another salt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

PLACE_BITS = 53
"""What a float holds exactly."""


def place_of(salt: str, unit: str) -> float:
    """Return the place of a unit in [0, 1): uniform over units, independent between salts.

    Examples
    --------
    >>> round(place_of("9f2c", "user_id=7"), 4)
    0.7607
    """
    digest = hashlib.blake2b(f"{salt}\0{unit}".encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") >> (64 - PLACE_BITS)) / 2.0**PLACE_BITS


def gets_challenger(salt: str, unit: str, percent: float) -> bool:
    """Return whether a unit is among the ``percent`` that get the challenger.

    Examples
    --------
    >>> gets_challenger("9f2c", "user_id=7", 0), gets_challenger("9f2c", "user_id=7", 100)
    (False, True)
    """
    return place_of(salt, unit) < percent / 100


def unit_of(keys: Mapping[str, int | str], request_id: str) -> str:
    """Return who or what is assigned: the request's first key as ``name=value``, else its id.

    Examples
    --------
    >>> unit_of({"user_id": 7, "shop_id": 2}, "r-1"), unit_of({}, "r-1")
    ('user_id=7', 'r-1')
    """
    return next((f"{name}={value}" for name, value in keys.items()), request_id)
