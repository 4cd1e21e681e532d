"""Records of the log to the columns that the kernel folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np

from feilun.aggregation.frames import Array, Column, EventFrame, Int64, UInt64
from feilun.definitions.specs import EventSpec, Project
from feilun.errors import CorruptData
from feilun.features.bodies import UNREADABLE, BodySchema, absent, body_schemas
from feilun.records.batch import RecordBatch
from feilun.records.record import LATE, Record

Knowledge = Literal["offset", "available"]

SYSTEM = "feilun."
"""Schemas with this prefix are what the system writes; they are no events of the project."""

# Rows live as tuples for about one chunk: more at once only feed the garbage collector, and fewer
# do not pay for the arrays that are made of them.
_CHUNK = 512


class Unusable(NamedTuple):
    """A record whose body is not what its schema says."""

    offset: int
    record: Record
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a run of records holds.

    Attributes
    ----------
    frames : dict of str to EventFrame
        Event name to its events, in any order; only events that occur.
    unknown : Counter
        Schema ids that cannot be read as events of the project, with how many records were skipped.
    unusable : list of Unusable
        Records left out because their bodies are not what their schemas say.
    """

    frames: dict[str, EventFrame]
    unknown: Counter[str]
    unusable: list[Unusable]


class FrameDecoder:
    """Reads records of the events of one project. Make it once; it keeps no records.

    A schema id stands for a shape. Known are the ids of each event as the project declares it,
    and of its earlier shapes: the same fields without optional ones at the end, under the same
    version or an earlier one. Others are read by the names of their fields, where ``history``
    says what they are: what an earlier shape lacks is absent, what it has too many is dropped, and
    an int may have become a float. Where a field has changed otherwise, the schema is unknown.

    Parameters
    ----------
    project : Project
        The events, as they are now.
    history : mapping
        Schema id to meaning, as ``EventLog.schemas`` returns them.

    Raises
    ------
    CorruptData
        If a meaning in ``history`` cannot be read.
    """

    def __init__(self, project: Project, history: Mapping[str, bytes] | None = None) -> None:
        self._schemas = body_schemas(project, history or {})

    def decode(self, records: Iterable[tuple[int, Record]], known: Knowledge = "offset") -> Decoded:
        """Decode records, given with their offsets. Late ones are left out.

        ``known`` says what a frame's ``known`` holds: the log offset, or (to make examples from
        imported history) the time at which each event became known, in µs UTC.
        """
        result = _Decoding(self._schemas, known)
        source = iter(records)
        while chunk := list(islice(source, _CHUNK)):
            for schema_id, pairs in _by_schema(chunk).items():
                result.add_records(schema_id, pairs)
        return result.decoded()

    def decode_batches(
        self, batches: Iterable[RecordBatch], known: Knowledge = "offset"
    ) -> Decoded:
        """Decode batches of records: the same as ``decode`` of their records, but much faster.

        Raises
        ------
        CorruptData
            If the columns of a batch do not fit together.
        """
        result = _Decoding(self._schemas, known)
        for batch in batches:
            result.add_batch(batch.unflagged(LATE))
        return result.decoded()


class _Decoding:
    """What was decoded until now."""

    def __init__(self, schemas: Mapping[str, BodySchema], known: Knowledge) -> None:
        self._schemas = schemas
        self._by_offset = known == "offset"
        self._columns: dict[str, _Columns] = {}
        self._unknown: Counter[str] = Counter()
        self._unusable: list[Unusable] = []

    def decoded(self) -> Decoded:
        frames = {name: columns.frame() for name, columns in self._columns.items()}
        return Decoded(frames, self._unknown, self._unusable)

    def add_batch(self, batch: RecordBatch) -> None:
        time, tie = batch.time, batch.tie
        known = batch.offsets if self._by_offset else batch.available
        at = 0
        for run in batch.runs:
            part = slice(at, at + run.rows)
            at += run.rows
            schema = self._schema(run.schema, run.rows)
            if schema is None:
                continue
            try:
                rows = [] if run.opaque else schema.read_all(run.packed)
            except UNREADABLE:
                rows = []
            if rows:
                if len(rows) != run.rows:
                    raise CorruptData(f"A batch has {len(rows)} bodies for {run.rows} rows.")
                self._of(schema).add(schema, rows, time[part], tie[part], known[part])
            else:
                records = dict(batch.records())
                offsets = batch.offsets[part].tolist()
                self.add_records(run.schema, [(offset, records[offset]) for offset in offsets])

    def add_records(self, schema_id: str, pairs: list[tuple[int, Record]]) -> None:
        """Add records of one schema, except those that cannot be read."""
        schema = self._schema(schema_id, len(pairs))
        if schema is None:
            return
        rows: list[tuple[Any, ...]] = []
        usable: list[tuple[int, Record]] = []
        for pair in pairs:
            try:
                rows.append(schema.read(pair[1].body))
            except UNREADABLE as error:
                self._unusable.append(Unusable(*pair, f"its body is not {schema_id}: {error}"))
            else:
                usable.append(pair)
        by_offset = self._by_offset
        self._of(schema).add(
            schema,
            rows,
            np.array([record.time for _, record in usable], np.int64),
            np.array([record.tie for _, record in usable], np.uint64),
            np.array([at if by_offset else record.available for at, record in usable], np.int64),
        )

    def _schema(self, schema_id: str, rows: int) -> BodySchema | None:
        schema = self._schemas.get(schema_id)
        if schema is None and not schema_id.startswith(SYSTEM):
            self._unknown[schema_id] += rows
        return schema

    def _of(self, schema: BodySchema) -> _Columns:
        columns = self._columns.get(schema.event.name)
        if columns is None:
            columns = self._columns[schema.event.name] = _Columns(schema.event)
        return columns


class _Columns:
    """The columns of one event while they grow."""

    def __init__(self, event: EventSpec) -> None:
        self._event = event
        self._time: list[Int64] = []
        self._tie: list[UInt64] = []
        self._known: list[Int64] = []
        self._fields: list[list[Column]] = [[] for _ in event.fields]
        self._schema: BodySchema | None = None
        self._rows: list[tuple[Any, ...]] = []

    def add(
        self,
        schema: BodySchema,
        rows: list[tuple[Any, ...]],
        time: Int64,
        tie: UInt64,
        known: Int64,
    ) -> None:
        """Add rows of one schema. Few of them wait for more, so that small batches are cheap."""
        if schema is not self._schema or len(self._rows) >= _CHUNK:
            self._flush()
            self._schema = schema
        self._rows += rows
        self._time.append(time)
        self._tie.append(tie)
        self._known.append(known)

    def frame(self) -> EventFrame:
        self._flush()
        fields = zip(self._event.fields, self._fields, strict=True)
        return EventFrame(
            time=_joined(self._time, np.int64),
            tie=_joined(self._tie, np.uint64),
            known=_joined(self._known, np.int64),
            columns={
                field.name: _stacked(parts) if parts else absent(field, 0)
                for field, parts in fields
            },
        )

    def _flush(self) -> None:
        if self._schema is None or not self._rows:
            return
        for parts, column in zip(self._fields, self._schema.columns(self._rows), strict=True):
            parts.append(column)
        self._rows = []


def event_frames(
    project: Project,
    records: Iterable[tuple[int, Record]],
    known: Knowledge = "offset",
    history: Mapping[str, bytes] | None = None,
) -> dict[str, EventFrame]:
    """Decode records to one frame per event, as the engine folds them.

    Left out are late records, schemas that the project does not know, and bodies that are not
    what their schemas say: the engine leaves out the same ones, and keeps the last with the bad
    events. Use `FrameDecoder` to learn what was left out.
    """
    return FrameDecoder(project, history).decode(records, known).frames


def empty_frame(event: EventSpec) -> EventFrame:
    """Return a frame of no events, with the event's columns."""
    return _Columns(event).frame()


def _by_schema(pairs: Iterable[tuple[int, Record]]) -> dict[str, list[tuple[int, Record]]]:
    found: dict[str, list[tuple[int, Record]]] = {}
    for pair in pairs:
        record = pair[1]
        if record.flags & LATE:
            continue
        group = found.get(record.schema)
        if group is None:
            group = found[record.schema] = []
        group.append(pair)
    return found


def _joined(parts: list[Array], dtype: Any) -> Array:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _stacked(parts: list[Column]) -> Column:
    if len(parts) == 1:
        return parts[0]
    return Column(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
    )
