"""Hashes of values and of events, the same for ever: states depend on them.

Numbers are mixed by the finalizer of SplitMix64, which maps 64 bits to 64 bits one to one, so that
two numbers of a field never share a hash. Strings have BLAKE2b of 64 bits of their UTF-8: any two
of a million share one with probability 3e-8.

Source: G. L. Steele, D. Lea, C. H. Flood, "Fast Splittable Pseudorandom Number Generators",
OOPSLA 2014 (with the constants of S. Vigna's ``splitmix64``).
"""

from __future__ import annotations

import hashlib

import numpy as np

from feilun.aggregation.frames import Array, UInt64


def hash_values(values: Array) -> UInt64:
    """Return a hash of each int, float, bool or str; both zeros have one hash.

    Examples
    --------
    >>> [f"{number:x}" for number in hash_values(np.array([0, 1])).tolist()]
    ['e220a8397b1dcdaf', '910a2dec89025cc1']
    >>> f"{hash_values(np.array(['a'], object))[0]:x}"
    '2f42665b399ef840'
    """
    if values.dtype == object:
        texts = values.tolist()
        known = {text: _hash_text(text) for text in set(texts)}
        return np.fromiter(map(known.__getitem__, texts), np.uint64, len(texts))
    if values.dtype.kind == "f":
        return mix((values + 0.0).view(np.uint64))
    return mix(values.astype(np.int64, copy=False).view(np.uint64))


def mix(numbers: UInt64) -> UInt64:
    """Spread numbers of 64 bits evenly, one to one."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    spread: UInt64 = mixed ^ (mixed >> np.uint64(31))
    return spread


def _hash_text(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
