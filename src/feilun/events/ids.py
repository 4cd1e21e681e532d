"""Names for events that came without one."""

from __future__ import annotations

import os
import random

# An id is no secret. Asking the system for each one would let other threads in each time.
_bits = random.Random()  # noqa: S311  (it begins from the system's randomness)
os.register_at_fork(after_in_child=_bits.seed)


def uuid7(time: int) -> str:
    """Return a UUID of version 7 for ``time`` (µs UTC): its milliseconds, then 74 random bits.

    Such ids grow with time, which keeps the log's index of ids compact. Source: RFC 9562, 5.7.

    Examples
    --------
    >>> name = uuid7(1_645_557_742_000_000)  # the RFC's own example, A.6
    >>> name[:13], name[14], name[19] in "89ab", len(name)
    ('017f22e2-79b0', '7', True, 36)
    """
    chance = _bits.getrandbits(74)
    milliseconds = (time // 1_000) & 0xFFFF_FFFF_FFFF
    high = milliseconds << 16 | 0x7000 | chance >> 62
    low = 0b10 << 62 | chance & 0x3FFF_FFFF_FFFF_FFFF
    text = f"{high << 64 | low:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
