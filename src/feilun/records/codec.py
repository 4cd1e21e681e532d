"""Records and batches of them as bytes. ``docs/formats.md`` draws the layouts.

A batch is what one append stores: a header that names its format and its first offset, a checksum
over everything, and the records in columns. A record that was erased is left out, and its offset is
not given to another. Batches of codec 0, the records as a MessagePack array with nil for what was
erased, are still read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import msgspec

from feilun.errors import CorruptData, InputError
from feilun.records.batch import RecordBatch
from feilun.records.columns import Columns
from feilun.records.record import FORMAT_VERSION, Prediction, Record

_MAGIC = b"FLRB"
_ROWS, _COLUMNS = 0, 1
_HEADER = struct.Struct(">4sBBQII")  # magic, format, codec, first offset, count, payload bytes
_CHECKSUM = struct.Struct(">I")
_PAYLOAD_AT = _HEADER.size + _CHECKSUM.size

_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(Record)
_rows_decoder = msgspec.msgpack.Decoder(list[Record | None])
_columns_decoder = msgspec.msgpack.Decoder(Columns)
_prediction_decoder = msgspec.msgpack.Decoder(Prediction)


def encode_record(record: Record) -> bytes:
    r"""Return the record as a MessagePack array.

    Examples
    --------
    >>> record = Record("click.v1", "web", "1", 5, 6, 5, 6, "user_id=7", b"d" * 16, b"\x90")
    >>> decode_record(encode_record(record)) == record
    True
    """
    return _encoder.encode(record)


def decode_record(raw: bytes) -> Record:
    """Return the record that ``encode_record`` wrote, now or in an earlier format.

    Raises
    ------
    CorruptData
        If the bytes are not a record.
    """
    try:
        return _record_decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"These {len(raw)} bytes are not a record: {error}") from error


def encode_prediction(prediction: Prediction) -> bytes:
    """Return the body of a ``feilun.prediction.1`` record."""
    return _encoder.encode(prediction)


def decode_prediction(body: bytes) -> Prediction:
    """Return the prediction in a record's body.

    Raises
    ------
    CorruptData
        If the bytes are not a prediction.
    """
    try:
        return _prediction_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"These {len(body)} bytes are not a prediction: {error}") from error


def encode_batch(base: int, records: Sequence[Record | None]) -> bytes:
    """Return records at consecutive offsets from ``base`` on as one checked block of bytes.

    Raises
    ------
    InputError
        If there are too many, or one of them has a number or a digest that no column can hold.
    """
    payload = _encoder.encode(RecordBatch.of(base, records).columns)
    header = _HEADER.pack(_MAGIC, FORMAT_VERSION, _COLUMNS, base, len(records), len(payload))
    checksum = zlib.crc32(payload, zlib.crc32(header))
    return b"".join((header, _CHECKSUM.pack(checksum), payload))


def decode_batch(raw: bytes) -> RecordBatch:
    """Return the records of a batch after checking every byte of it.

    Raises
    ------
    CorruptData
        If it is not a batch, was cut short, fails its checksum, or is of a newer format.
    """
    if len(raw) < _PAYLOAD_AT:
        raise CorruptData(f"A batch of {len(raw)} bytes is shorter than its header.")
    magic, version, codec, base, count, size = _HEADER.unpack_from(raw)
    payload = memoryview(raw)[_PAYLOAD_AT:]
    (checksum,) = _CHECKSUM.unpack_from(raw, _HEADER.size)
    if magic != _MAGIC:
        raise CorruptData(f"A batch begins with {magic!r} instead of {_MAGIC!r}.")
    if len(payload) != size or zlib.crc32(payload, zlib.crc32(raw[: _HEADER.size])) != checksum:
        raise CorruptData("A batch fails its checksum.")
    if version > FORMAT_VERSION or codec > _COLUMNS:
        raise CorruptData(
            f"A batch is of format {version} with codec {codec}; this version reads formats up "
            f"to {FORMAT_VERSION} with codecs up to {_COLUMNS}.",
            "Use the version of Feilun that wrote it, or a newer one.",
        )
    try:
        if codec == _ROWS:
            rows = _rows_decoder.decode(payload)
            batch, found = RecordBatch.of(base, rows), len(rows)
        else:
            columns = _columns_decoder.decode(payload)
            batch = RecordBatch(base, base + count, columns)
            some_erased = bool(columns.places) or not columns.runs
            found = count if some_erased and len(batch) <= count else len(batch)
    except (msgspec.MsgspecError, UnicodeDecodeError, InputError) as error:
        raise CorruptData(f"The rows of a batch cannot be read: {error}") from error
    if found != count:
        raise CorruptData(f"A batch holds {found} rows where its header says {count}.")
    return batch
