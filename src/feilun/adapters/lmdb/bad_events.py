"""What could not become a record, kept under growing numbers in a database of the log."""

from __future__ import annotations

import struct
import zlib

import lmdb
import msgspec

from feilun.adapters.lmdb.environment import Environment
from feilun.errors import CorruptData
from feilun.ports.event_log import BadEvent

_VERSION = 1
_HEAD = struct.Struct(">BI")  # format, CRC-32 of what follows
_NUMBER = struct.Struct(">Q")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(BadEvent)


class BadEvents:
    """Bad events in a database of ``env``; beyond ``limit`` bytes the oldest give way."""

    def __init__(self, env: Environment, database: lmdb._Database, limit: int) -> None:
        self._env = env
        self._database = database
        self._limit = limit

    def put(self, txn: lmdb.Transaction[bytes], event: BadEvent) -> None:
        """Store an event under its number, which must be the next."""
        raw = encode_bad(event)
        with txn.cursor(self._database) as cursor:
            cursor.put(_NUMBER.pack(event.number), raw)
            while self._env.bytes_of(txn, self._database) > self._limit and cursor.first():
                cursor.delete()

    def read(self, start: int, limit: int) -> list[BadEvent]:
        """Return up to ``limit`` events from number ``start`` on.

        Raises
        ------
        CorruptData
            If one fails its check.
        """
        found: list[bytes] = []
        with self._env.read() as txn, txn.cursor(self._database) as cursor:
            more = cursor.set_range(_NUMBER.pack(max(start, 0)))
            while more and len(found) < limit:
                found.append(cursor.value())
                more = cursor.next()
        return [decode_bad(raw) for raw in found]


def encode_bad(event: BadEvent) -> bytes:
    """Return the event's stored bytes."""
    payload = _encoder.encode(event)
    return _HEAD.pack(_VERSION, zlib.crc32(payload)) + payload


def decode_bad(raw: bytes) -> BadEvent:
    """Return the event that ``encode_bad`` wrote.

    Raises
    ------
    CorruptData
        If the bytes fail their check or are of a newer format.
    """
    if len(raw) < _HEAD.size:
        raise CorruptData(f"A bad event of {len(raw)} bytes is shorter than its header.")
    version, checksum = _HEAD.unpack_from(raw)
    payload = raw[_HEAD.size :]
    if zlib.crc32(payload) != checksum:
        raise CorruptData("A bad event fails its checksum.")
    if version > _VERSION:
        raise CorruptData(
            f"A bad event is of format {version}; this version reads formats up to {_VERSION}.",
            "Use the version of Feilun that wrote it, or a newer one.",
        )
    return _decoder.decode(payload)
