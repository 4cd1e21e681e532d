"""Which tiles are whole: what the store says of itself beside the tiles.

Under one reserved key the engine keeps, in the transaction that folds, for each fold: since which
offset its tiles hold every event of the log, and how long they are kept. A fold that is not there,
or whose tiles are kept too short for a feature, cannot be read yet.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from feilun.definitions.specs import FeatureSpec, FoldSpec
from feilun.errors import CorruptData

KEY = b"built"
"""Shorter than a fingerprint, so that no tile has it."""

_VERSION = 1


class Whole(msgspec.Struct, frozen=True, array_like=True):
    """Tiles of one fold that hold every event of the log.

    ``since`` is the store's offset at which that became so; ``retention`` (µs, None: for ever) how
    long its tiles are kept.
    """

    since: int
    retention: int | None


class Built(msgspec.Struct, frozen=True, array_like=True):
    """The folds whose tiles are whole, by fingerprint."""

    version: int = _VERSION
    folds: dict[bytes, Whole] = {}

    def has(self, fold: FoldSpec) -> bool:
        """Whether the tiles of exactly this fold are whole, with this retention."""
        whole = self.folds.get(fold.fingerprint)
        return whole is not None and whole.retention == fold.retention

    def answers(self, feature: FeatureSpec) -> bool:
        """Whether the feature can be read: its tiles are whole and reach back far enough."""
        whole = self.folds.get(feature.fold.fingerprint)
        if whole is None:
            return False
        kept, needed = whole.retention, feature.fold.retention
        return kept is None or (needed is not None and needed <= kept)

    def becoming(self, folds: Iterable[FoldSpec], offset: int) -> Built:
        """Return what holds when every one of ``folds``, and no other, is whole at ``offset``."""
        return Built(
            folds={
                fold.fingerprint: self.folds[fold.fingerprint]
                if self.has(fold)
                else Whole(offset, fold.retention)
                for fold in folds
            }
        )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Built)


def encode_built(built: Built) -> bytes:
    """Return the bytes to store under ``KEY``."""
    return _encoder.encode(built)


def decode_built(raw: bytes | None) -> Built:
    """Return what was stored under ``KEY``; no fold is whole where nothing was.

    Raises
    ------
    CorruptData
        If the bytes are of another format.

    Examples
    --------
    >>> built = Built(folds={b"12345678": Whole(0, None)})
    >>> decode_built(encode_built(built)) == built
    True
    """
    if raw is None:
        return Built()
    try:
        built = _decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise _corrupt(str(error)) from error
    if built.version != _VERSION:
        raise _corrupt(f"it is of format {built.version}, and this program knows {_VERSION}")
    return built


def _corrupt(why: str) -> CorruptData:
    return CorruptData(
        f"The store's list of whole tiles cannot be read: {why}.",
        "Tiles are derived: rebuild them from the log.",
    )
