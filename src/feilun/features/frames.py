"""Records of the log to the columns that the kernel folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from feilun.aggregation.frames import Column, EventFrame
from feilun.definitions.specs import DType, EventSpec, FieldSpec, Project
from feilun.records.record import LATE, Record

Knowledge = Literal["offset", "available"]

SYSTEM = "feilun."
"""Schemas with this prefix are what the system writes; they are no events of the project."""

# Rows live as tuples for one chunk only: more of them at once only feed the garbage collector.
_CHUNK = 512

_WIRE: Mapping[DType, Any] = {
    # MessagePack has unsigned integers above int64; a column has not.
    "int": Annotated[int, msgspec.Meta(le=2**63 - 1)],
    "float": float,
    "str": str,
    "bool": bool,
}
_ARRAY: Mapping[DType, Any] = {
    "int": np.int64,
    "float": np.float64,
    "str": object,
    "bool": np.bool_,
}
_FILLER: Mapping[DType, Any] = {"int": 0, "float": 0.0, "str": "", "bool": False}


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
        Schema ids that the project does not know, with how many records were skipped.
    unusable : list of Unusable
        Records left out because their bodies are not what their schemas say.
    """

    frames: dict[str, EventFrame]
    unknown: Counter[str]
    unusable: list[Unusable]


class _Schema(NamedTuple):
    event: str
    read: Callable[[bytes], tuple[Any, ...]]
    absent: int


class _Columns:
    """The columns of one event while they grow."""

    def __init__(self, event: EventSpec) -> None:
        self.event = event
        self.time: list[int] = []
        self.tie: list[int] = []
        self.known: list[int] = []
        self.fields: list[list[Any]] = [[] for _ in event.fields]

    def frame(self) -> EventFrame:
        fields = zip(self.event.fields, self.fields, strict=True)
        return EventFrame(
            time=np.array(self.time, np.int64),
            tie=np.array(self.tie, np.uint64),
            known=np.array(self.known, np.int64),
            columns={field.name: _column(field, values) for field, values in fields},
        )


class FrameDecoder:
    """Reads records of the events of one project. Make it once; it keeps no records.

    A schema id stands for a shape. Known are the ids of each event as the project declares it,
    and of its earlier shapes: the same fields without optional ones at the end, under the same
    version or an earlier one. What an earlier shape lacks is absent.
    """

    def __init__(self, project: Project) -> None:
        self._events = project.events
        self._schemas = {
            shape.schema_id: _Schema(
                name, _reader(shape.fields), len(event.fields) - len(shape.fields)
            )
            for name, event in project.events.items()
            for shape in _shapes(event)
        }

    def decode(self, records: Iterable[tuple[int, Record]], known: Knowledge = "offset") -> Decoded:
        """Decode records, given with their offsets. Late ones are left out.

        ``known`` says what a frame's ``known`` holds: the log offset, or (to make examples from
        imported history) the time at which each event became known, in µs UTC.
        """
        found: dict[str, _Columns] = {}
        unknown: Counter[str] = Counter()
        unusable: list[Unusable] = []
        source = iter(records)
        while chunk := list(islice(source, _CHUNK)):
            for schema_id, pairs in _by_schema(chunk).items():
                schema = self._schemas.get(schema_id)
                if schema is None:
                    if not schema_id.startswith(SYSTEM):
                        unknown[schema_id] += len(pairs)
                    continue
                columns = found.get(schema.event)
                if columns is None:
                    columns = found[schema.event] = _Columns(self._events[schema.event])
                unusable += _extend(columns, schema, pairs, known)
        frames = {name: columns.frame() for name, columns in found.items()}
        return Decoded(frames, unknown, unusable)


def event_frames(
    project: Project, records: Iterable[tuple[int, Record]], known: Knowledge = "offset"
) -> dict[str, EventFrame]:
    """Decode records to one frame per event, as the engine folds them.

    Left out are late records, schemas that the project does not know, and bodies that are not
    what their schemas say: the engine leaves out the same ones, and keeps the last with the bad
    events. Use `FrameDecoder` to learn what was left out.
    """
    return FrameDecoder(project).decode(records, known).frames


def empty_frame(event: EventSpec) -> EventFrame:
    """Return a frame of no events, with the event's columns."""
    return _Columns(event).frame()


def _shapes(event: EventSpec) -> Iterable[EventSpec]:
    fields = event.fields
    while True:
        for version in range(1, event.version + 1):
            yield replace(event, version=version, fields=fields)
        if not fields or not fields[-1].optional:
            return
        fields = fields[:-1]


def _reader(fields: Sequence[FieldSpec]) -> Callable[[bytes], tuple[Any, ...]]:
    wire = [_WIRE[f.dtype] | None if f.optional else _WIRE[f.dtype] for f in fields]
    shape: Any = tuple.__class_getitem__(tuple(wire))
    return msgspec.msgpack.Decoder(shape).decode


def _by_schema(
    pairs: Iterable[tuple[int, Record]],
) -> dict[str, list[tuple[int, Record]]]:
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


def _extend(
    columns: _Columns, schema: _Schema, pairs: list[tuple[int, Record]], known: Knowledge
) -> list[Unusable]:
    """Add records of one schema to the columns; return those that cannot be read."""
    unusable: list[Unusable] = []
    read = schema.read
    try:
        rows = [read(record.body) for _, record in pairs]
    except msgspec.MsgspecError:
        rows, usable = [], []
        for offset, record in pairs:
            try:
                rows.append(read(record.body))
            except msgspec.MsgspecError as error:
                reason = f"its body is not {record.schema}: {error}"
                unusable.append(Unusable(offset, record, reason))
            else:
                usable.append((offset, record))
        pairs = usable
    columns.time += [record.time for _, record in pairs]
    columns.tie += [record.tie for _, record in pairs]
    if known == "offset":
        columns.known += [offset for offset, _ in pairs]
    else:
        columns.known += [record.available for _, record in pairs]
    if rows:
        absent = [(None,) * len(rows)] * schema.absent
        fields = [*zip(*rows, strict=True), *absent]
        for column, values in zip(columns.fields, fields, strict=True):
            column.extend(values)
    return unusable


def _column(field: FieldSpec, values: list[Any]) -> Column:
    present = np.ones(len(values), np.bool_)
    if field.optional and None in values:
        present = np.array([value is not None for value in values], np.bool_)
        filler = _FILLER[field.dtype]
        values = [filler if value is None else value for value in values]
    return Column(np.array(values, _ARRAY[field.dtype]), present)
