"""What a key looks like, and how a new one is made.

A key is ``flk_``, its id, ``_`` and its secret: the id finds it, the secret proves it. This
machine's own token is ``flt_`` and a secret.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import NamedTuple

from feilun.ports.teams import NewKey

KEY_PREFIX, TOKEN_PREFIX = "flk_", "flt_"  # how they begin; what scans for secrets finds them by it
SECRET_BYTES = 32
ID_BYTES = 6
_ID_AT = slice(len(KEY_PREFIX), len(KEY_PREFIX) + 2 * ID_BYTES)
_TOKEN = re.compile(r"flt_[A-Za-z0-9_-]{43}")
_KEY = re.compile(rb"flk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")
_SECRET = re.compile(r"fl(k_[0-9a-f]{12}|t)_[A-Za-z0-9_-]{20}")  # a part of one is bad enough


class MadeKey(NamedTuple):
    """A new key: ``text`` is shown once and stored nowhere, ``stored`` is what is kept."""

    text: str
    stored: NewKey


def make_key(expires: int | None = None) -> MadeKey:
    """Make a key of 256 random bits. ``expires`` is µs UTC.

    Examples
    --------
    >>> made = make_key()
    >>> key_id(made.text.encode()) == made.stored.id
    True
    >>> digest_of(made.text.encode()) == made.stored.digest
    True
    """
    id = secrets.token_hex(ID_BYTES)
    text = f"{KEY_PREFIX}{id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return MadeKey(text, NewKey(id, digest_of(text.encode()), expires))


def make_token() -> str:
    """Make a token of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def is_token(text: str) -> bool:
    """Say whether ``text`` has the form of a token."""
    return _TOKEN.fullmatch(text) is not None


def holds_secret(text: str) -> bool:
    """Say whether a key or a token, or most of one, stands somewhere in ``text``.

    Examples
    --------
    >>> holds_secret(f"user_id=1&key={make_key().text}")
    True
    >>> holds_secret("user_id=flk_7")
    False
    """
    return _SECRET.search(text) is not None


def key_id(presented: bytes) -> str:
    """Return the id in what somebody presents as a key; empty if it has not the form of one."""
    return presented[_ID_AT].decode() if _KEY.fullmatch(presented) else ""


def digest_of(presented: bytes) -> bytes:
    """Return what is stored of a key.

    Slow hashes and salts protect passwords, which people choose and others can guess. Nobody
    guesses 256 random bits, so one SHA-256 gives away as little, and costs a microsecond.
    """
    return hashlib.sha256(presented).digest()
