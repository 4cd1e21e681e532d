"""The stored form of a batch: its columns as bytes, and how records become them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from feilun.errors import CorruptData, InputError
from feilun.records.compiled import loops
from feilun.records.lists import distinct
from feilun.records.record import Record, tie_digests
from feilun.records.rows import Rows

ROW_LIMIT = 1 << 16
"""The most offsets that one batch may span."""
NUMBER_BYTES = 8
"""The width of times and ties."""
PLACE_BYTES = 2
"""The width of places and sources."""
DIGEST_BYTES = 16

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode
_texts = msgspec.msgpack.Decoder(list[str]).decode
_bins = msgspec.msgpack.Decoder(list[bytes]).decode
_values = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class Run(msgspec.Struct, frozen=True, array_like=True):
    """The records of one schema in a batch.

    Attributes
    ----------
    schema : str
        Their schema.
    rows : int
        How many they are.
    packed : bytes
        A MessagePack array of their bodies, in the order of their offsets.
    opaque : bool
        Some body is not one MessagePack value, so each stands in the array as a bin.
    """

    schema: str
    rows: int
    packed: bytes
    opaque: bool = False

    def bodies(self) -> list[bytes]:
        """Return the body of each record.

        Raises
        ------
        CorruptData
            If the stored array is not one of as many bodies as there are rows.
        """
        if self.opaque:
            bodies = _decoded(_bins, self.packed)
        else:
            bodies = [bytes(value) for value in _decoded(_values, self.packed)]
        return _as_many(bodies, self.rows)

    def chosen(self, rows: Sequence[int]) -> Run:
        """Return the run of the records at ``rows`` alone, which grow."""
        if len(rows) == self.rows:
            return self
        bodies = self.bodies()
        few = [bodies[row] for row in rows]
        return Run(self.schema, len(few), _encode(few) if self.opaque else _array(few), self.opaque)


class Columns(msgspec.Struct, frozen=True, array_like=True):
    """A batch as it is stored, row after row by schema, and by offset within a schema.

    Numbers are little-endian. A column that holds one value for several rows means that value for
    each of them. ``docs/formats.md`` draws the fields, whose places are for ever.
    """

    runs: list[Run]
    places: bytes
    client_time: bytes
    time: bytes
    received: bytes
    available: bytes
    tie: bytes
    flags: bytes
    digest: bytes
    sources: list[str]
    source: bytes
    id: bytes
    subject: bytes

    def chosen(self, runs: list[Run], places: Sequence[int], rows: npt.NDArray[np.intp]) -> Columns:
        """Return the columns of ``rows``, which grow; ``runs`` and ``places`` are theirs."""
        return Columns(
            runs=runs,
            places=_packed("H", places),
            client_time=_rows_of(self.client_time, NUMBER_BYTES, rows),
            time=_rows_of(self.time, NUMBER_BYTES, rows),
            received=_rows_of(self.received, NUMBER_BYTES, rows),
            available=_rows_of(self.available, NUMBER_BYTES, rows),
            tie=_rows_of(self.tie, NUMBER_BYTES, rows),
            flags=_rows_of(self.flags, 1, rows),
            digest=_rows_of(self.digest, DIGEST_BYTES, rows),
            sources=self.sources,
            source=_rows_of(self.source, PLACE_BYTES, rows),
            id=_texts_of(self.id, rows),
            subject=_texts_of(self.subject, rows),
        )


def columns_of(rows: Sequence[Record | None]) -> Columns:
    """Return records at consecutive offsets as columns; None where one was erased.

    Raises
    ------
    InputError
        If there are more than ``ROW_LIMIT``, or one has a time beyond int64, a digest that has not
        16 bytes, or flags beyond a byte.
    """
    if len(rows) > ROW_LIMIT:
        raise InputError(f"A batch has at most {ROW_LIMIT} rows, not {len(rows)}.")
    ordered, places = _by_schema(rows)
    runs: list[Run] = []
    at = 0
    for schema in distinct(ordered.schema):
        count = ordered.schema.count(schema)
        runs.append(_run(schema, ordered.body[at : at + count]))
        at += count
    try:
        return _columns(runs, ordered, places)
    except (struct.error, ArithmeticError, TypeError, ValueError) as error:
        raise InputError(f"A record has a number that cannot be kept: {error}.") from error


def _by_schema(rows: Sequence[Record | None]) -> tuple[Rows, list[int]]:
    """Return the records by schema, and the places of them; no places if all are in order."""
    if isinstance(rows, Rows):
        if len(distinct(rows.schema)) <= 1:
            return rows, []
        places, found = list(range(len(rows))), rows
    else:
        places = [place for place, record in enumerate(rows) if record is not None]
        found = Rows.of([record for record in rows if record is not None])
    schemas = distinct(found.schema)
    if len(schemas) > 1:
        by_schema: dict[str, list[int]] = {schema: [] for schema in schemas}
        for at, schema in enumerate(found.schema):
            by_schema[schema].append(at)
        order = list(chain.from_iterable(by_schema.values()))
        places, found = [places[at] for at in order], found.chosen(order)
    return found, [] if places == list(range(len(rows))) else places


def _columns(runs: list[Run], rows: Rows, places: Sequence[int]) -> Columns:
    """Return the stored form; ``places`` is empty where row ``i`` is at offset ``base + i``."""
    places_of = {source: place for place, source in enumerate(distinct(rows.source))}
    tie = np.frombuffer(tie_digests(rows.source, rows.id), ">u8")
    return Columns(
        runs=runs,
        places=_packed("H", places),
        client_time=_numbers(rows.client_time),
        time=b"" if rows.time == rows.client_time else _numbers(rows.time),
        received=_numbers(rows.received),
        available=b"" if rows.available == rows.received else _numbers(rows.available),
        tie=tie.astype("<u8").tobytes(),
        flags=_once(bytes(rows.flags), 1),
        digest=digest_column(rows.digest),
        sources=list(places_of),
        source=_packed("H", [places_of[s] for s in rows.source] if len(places_of) > 1 else []),
        id=_encode(rows.id),
        subject=_encode(_once_text(rows.subject)),
    )


def _run(schema: str, bodies: list[bytes]) -> Run:
    packed = _array(bodies)
    if loops is not None and loops.plain(bodies):
        return Run(schema, len(bodies), packed)
    try:
        values = _values(packed)
    except (msgspec.DecodeError, RecursionError):
        values = []
    # Only if each body is exactly one value does the array fall into the same bodies again.
    if list(map(len, values)) == list(map(len, bodies)):
        return Run(schema, len(bodies), packed)
    return Run(schema, len(bodies), _encode(bodies), opaque=True)


def _array(bodies: Sequence[bytes]) -> bytes:
    """Return a MessagePack array of values that are MessagePack already."""
    length = len(bodies)
    if length < 1 << 4:
        head = bytes([0x90 | length])
    elif length < 1 << 16:
        head = b"\xdc" + length.to_bytes(2, "big")
    else:
        head = b"\xdd" + length.to_bytes(4, "big")
    return head + b"".join(bodies)


def _numbers(values: list[int]) -> bytes:
    if loops is not None:
        column: bytes = loops.packed(values)
        return column
    return _once(_packed("q", values), NUMBER_BYTES)


def _packed(form: str, values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}{form}", *values)


def digest_column(digests: list[bytes]) -> bytes:
    """Return digests one after another.

    Raises
    ------
    InputError
        If one has not 16 bytes.
    """
    try:
        return _joined(digests, DIGEST_BYTES)
    except ValueError as error:
        raise InputError(f"A record's digest has {DIGEST_BYTES} bytes.") from error


def _joined(values: list[bytes], width: int) -> bytes:
    if loops is not None:
        column: bytes = loops.joined(values, width)
        return column
    if set(map(len, values)) - {width}:
        raise ValueError(f"each has {width} bytes")
    return b"".join(values)


def _once(column: bytes, width: int) -> bytes:
    """Return one value of a column whose values are all the same; any other unchanged."""
    first = column[:width]
    rows = len(column) // width if width else 0
    alike = rows > 1 and column[-width:] == first and column == first * rows
    return first if alike else column


def _once_text(values: list[str]) -> list[str]:
    return values[:1] if values[:1] * len(values) == values else values


def integers(form: str, column: bytes, rows: int) -> Sequence[int]:
    """Return a column's values, where ``form`` is ``q`` or ``H``; fast also where rows are few."""
    width = struct.calcsize(f"<{form}")
    return struct.unpack(f"<{rows}{form}", filled(column, width, rows))


def cells(column: bytes, width: int) -> list[bytes]:
    r"""Return the values of a column, ``width`` bytes each.

    Examples
    --------
    >>> cells(b"ab\0cd\0", 3)
    [b'ab\x00', b'cd\x00']
    """
    values: list[bytes] = np.frombuffer(column, f"V{width}").tolist()
    return values


def filled(column: bytes, width: int, rows: int) -> bytes:
    """Return a column with a value for each row.

    Raises
    ------
    CorruptData
        If it has neither one value nor as many as there are rows.
    """
    if len(column) == width * rows:
        return column
    if len(column) != width:
        raise CorruptData(f"A column of a batch has {len(column)} bytes for {rows} rows.")
    return column * rows


def texts(column: bytes, rows: int) -> list[str]:
    """Return a column's values, one for each row. Raises as `filled` does."""
    values = _decoded(_texts, column)
    return values * rows if len(values) == 1 else _as_many(values, rows)


def _rows_of(column: bytes, width: int, rows: npt.NDArray[np.intp]) -> bytes:
    if len(column) <= width:
        return column if len(rows) else b""
    return np.frombuffer(column, f"V{width}")[rows].tobytes()


def _texts_of(column: bytes, rows: npt.NDArray[np.intp]) -> bytes:
    values = _decoded(_texts, column)
    if len(values) > 1 or not len(rows):
        values = [values[row] for row in rows.tolist()]
    return _encode(values)


def _decoded(decode: Callable[[bytes], list[T]], column: bytes) -> list[T]:
    try:
        return decode(column)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"A column of a batch cannot be read: {error}") from error


def _as_many(values: list[T], rows: int) -> list[T]:
    if len(values) != rows:
        raise CorruptData(f"A column of a batch has {len(values)} values for {rows} rows.")
    return values
