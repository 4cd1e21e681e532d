"""The archiver: records of the log into the lake; and history, read from both.

The log's columns become the lake's a batch at a time. What the lake holds of a record is every
field of the shape it was written in, whatever its event is now: no definitions are needed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from feilun.aggregation.frames import Array, Column, EventFrame
from feilun.clock import MINUTE, Clock
from feilun.definitions.specs import EventSpec, Project
from feilun.errors import CorruptData
from feilun.features.bodies import UNREADABLE, BodySchema, stored_schema
from feilun.features.frames import FrameDecoder
from feilun.ports.event_log import EventLog
from feilun.ports.lake import SYSTEM, Lake, LakeField, LakeTable, LakeType, Rows, event_table
from feilun.records.batch import RecordBatch
from feilun.records.codec import decode_prediction
from feilun.records.columns import Run
from feilun.records.record import PREDICTION_SCHEMA, SHADOW_SCHEMA
from feilun.records.schema import decode_schema

BATCH_BYTES = 64 * 2**20
"""So many bytes of records are archived at once, and no longer wait for ``LONGEST_WAIT``."""
LONGEST_WAIT = 15 * MINUTE
"""How long the oldest record that is not in the lake may have waited, µs."""
_SAMPLE = 1_024
_READ = 10_000

_BODY = (LakeField("body", "bytes"),)
UNREADABLE_TABLE = LakeTable(f"{SYSTEM}unreadable", _BODY)
"""Records whose bodies are not what their schemas say."""
UNDECLARED_TABLE = LakeTable(f"{SYSTEM}undeclared", _BODY)
"""Records whose schemas were never declared to the log."""
_PREDICTION_FIELDS: dict[str, LakeType] = {
    "capability": "str",
    "model": "str",
    "version": "int",
    "as_of": "time",
    "folded_offset": "int",
    "keys": "str",
    "item": "str",
    "items": "str",
    "columns": "str",
    "vectors": "vector32",
    "scores": "vector",
    "answer": "str",
    "degraded": "str",
    "request_id": "str",
    "request": "str",
    "arm": "str",
    "propensity": "float",
    "rollout": "int",
    "exploration": "str",
    "list_propensity": "float",
    "item_propensities": "vector",
    "encoders": "str",
}
_PREDICTION_COLUMNS = tuple(LakeField(name, type_) for name, type_ in _PREDICTION_FIELDS.items())
PREDICTION_TABLE = LakeTable(f"{SYSTEM}prediction", _PREDICTION_COLUMNS)
SHADOW_TABLE = LakeTable(f"{SYSTEM}shadow", _PREDICTION_COLUMNS)
"""What shadows scored. Lists and mappings are JSON: see ``_JSON``."""
_JSON = frozenset({"keys", "items", "answer", "degraded", "request", "encoders"})
_KIND = re.compile(r"feilun\.([a-z][a-z0-9_]*)\.\d+")
_DTYPES = frozenset({"int", "float", "str", "bool", "vector"})

_to_json = msgspec.json.Encoder().encode


class Archiver:
    """Writes what the log has and the lake has not, seldom and much at a time.

    Parameters
    ----------
    log : EventLog
        What to archive.
    lake : Lake
        Where to. Another archiver may work on it: nothing is written twice.
    clock : Clock
        Says how long records have waited since they were received.
    """

    def __init__(self, log: EventLog, lake: Lake, clock: Clock) -> None:
        self._log = log
        self._lake = lake
        self._waiting = Waiting(log, clock)
        self._rows = RowReader(log)
        self._position = lake.archived()

    @property
    def position(self) -> int:
        """The offset of the first record that is not in the lake."""
        return self._position

    def run_once(self) -> int:
        """Archive one batch if one is due; return how many offsets it took.

        Raises
        ------
        ConfigError
            If an event has a field that the lake keeps under another type.
        CorruptData
            If the log cannot be read there.
        """
        count = self._waiting.due(self._position)
        return self._archive(count) if count else 0

    def run_all(self) -> int:
        """Archive everything the log has now, due or not; return how many offsets that took."""
        end, taken = self._log.end(), 0
        while self._position < end:
            size = _mean_size(self._log.read_batches(self._position, _SAMPLE))
            taken += self._archive(min(end - self._position, _batch_rows(size)))
        return taken

    def _archive(self, count: int) -> int:
        start, stop = self._position, self._position + count
        self._lake.append(start, stop, self._rows.read(start, stop))
        self._position = stop
        return count


class Waiting:
    """Says when enough records wait, or the oldest of them has waited for long enough.

    How long is told by when it was received, so that a restart begins no wait anew. A replay's
    records are old when they come: what the log had when it last was time is taken at once, and
    what came later no sooner than ``LONGEST_WAIT`` after that. So are those that were received at
    a time that has yet to come, before the clock was set back.
    """

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._end = 0
        self._again: int | None = None

    def due(self, position: int) -> int:
        """Return how many offsets from ``position`` on should be archived now: 0 if none.

        Cheap: polled.
        """
        end = self._log.end()
        if end <= position:
            return 0
        sample = self._log.read_batches(position, _SAMPLE)
        full = _batch_rows(_mean_size(sample))
        waiting = end - position
        return min(waiting, full) if waiting >= full or self._old(sample, position, end) else 0

    def _old(self, sample: Sequence[RecordBatch], position: int, end: int) -> bool:
        now = self._clock.now()
        # Where all were erased nobody can tell, and nothing is lost by taking them.
        received = next((int(batch.received[0]) for batch in sample if len(batch)), 0)
        if 0 <= now - received < LONGEST_WAIT:
            return False
        if position < self._end:
            return True
        if self._again is not None and 0 < self._again - now <= LONGEST_WAIT:
            return False
        self._end, self._again = end, now + LONGEST_WAIT
        return True


def _mean_size(sample: Sequence[RecordBatch]) -> float:
    """Return about how many bytes one record has."""
    rows = sum(len(batch) for batch in sample)
    return sum(_size(batch) for batch in sample) / max(rows, 1)


def _size(batch: RecordBatch) -> int:
    columns = batch.columns
    texts = len(columns.id) + len(columns.subject) + len(columns.digest)
    numbers = sum(
        len(column) for column in (columns.client_time, columns.time, columns.received, columns.tie)
    )
    return texts + numbers + sum(len(run.packed) for run in batch.runs)


def _batch_rows(size: float) -> int:
    return max(int(BATCH_BYTES / max(size, 1.0)), 1)


class RowReader:
    """Reads records of a log as rows of the lake's tables.

    Parameters
    ----------
    log : EventLog
        Where they are; it also says what their schemas mean.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._shapes: dict[str, tuple[LakeTable, BodySchema] | None] = {}

    def read(self, start: int, stop: int) -> Iterator[Rows]:
        """Read the records at offsets ``[start, stop)``; those that were erased are left out.

        Raises
        ------
        CorruptData
            If the log cannot be read there.
        """
        while start < stop and (batches := self._log.read_batches(start, min(_READ, stop - start))):
            for batch in batches:
                yield from self.rows(batch)
            start = batches[-1].end

    def rows(self, batch: RecordBatch) -> Iterator[Rows]:
        """Return a batch as rows, by table."""
        whole = _envelope(batch)
        at = 0
        for run in batch.runs:
            part = slice(at, at + run.rows)
            at += run.rows
            envelope: dict[str, Array] = {name: values[part] for name, values in whole.items()}
            envelope["_schema"] = np.full(run.rows, run.schema, object)
            yield from self._run(run, envelope)

    def _run(self, run: Run, envelope: dict[str, Array]) -> Iterator[Rows]:
        if run.schema in (PREDICTION_SCHEMA, SHADOW_SCHEMA):
            table = PREDICTION_TABLE if run.schema == PREDICTION_SCHEMA else SHADOW_TABLE
            read = _prediction
            found = [_try(read, body) for body in run.bodies()]
            to_columns = _prediction_columns
        elif (kind := _KIND.fullmatch(run.schema)) is not None:
            yield _opaque(LakeTable(f"{SYSTEM}{kind[1]}", _BODY), envelope, run.bodies())
            return
        else:
            shape = self._shape(run.schema)
            if shape is None:
                yield _opaque(UNDECLARED_TABLE, envelope, run.bodies())
                return
            table, schema = shape
            found = _event_rows(run, schema)
            to_columns = schema.columns
        good = np.array([row is not None for row in found], np.bool_)
        if good.all():
            yield _rows(table, envelope, to_columns(found))
            return
        bodies = run.bodies()
        lost = [bodies[place] for place in np.flatnonzero(~good).tolist()]
        yield _opaque(UNREADABLE_TABLE, _chosen(envelope, ~good), lost)
        if good.any():
            rest = [row for row in found if row is not None]
            yield _rows(table, _chosen(envelope, good), to_columns(rest))

    def _shape(self, schema_id: str) -> tuple[LakeTable, BodySchema] | None:
        if schema_id not in self._shapes:
            meaning = self._log.schemas().get(schema_id)
            shape = None if meaning is None else decode_schema(meaning)
            # A type that only a newer version knows is kept as it is.
            known = shape is not None and all(f.dtype in _DTYPES for f in shape.fields)
            self._shapes[schema_id] = (
                (event_table(shape), stored_schema(shape)) if shape and known else None
            )
        return self._shapes[schema_id]


def history(
    project: Project,
    event: EventSpec,
    start: int,
    stop: int,
    *,
    log: EventLog,
    lake: Lake,
    without: Collection[int] = (),
) -> Iterator[EventFrame]:
    """Read the events of one kind at offsets ``[start, stop)``, from the lake as far as it goes.

    The same rows in the same columns as from the log alone, in frames of bounded size and in any
    order. Late events are left out, and those at the offsets ``without`` (what was set aside).
    ``known`` is the offset.
    """
    middle = max(start, min(stop, lake.archived()))
    left_out = np.fromiter(without, np.int64, len(without))
    for frame in lake.frames(event, start, middle):
        yield _except(frame, left_out)
    decoder = FrameDecoder(project, log.schemas())
    while middle < stop and (batches := log.read_batches(middle, min(_READ, stop - middle))):
        found = decoder.decode_batches(batches).frames.get(event.name)
        if found is not None:
            yield _except(found, left_out)
        middle = batches[-1].end


def _except(frame: EventFrame, offsets: Array) -> EventFrame:
    drop = np.isin(frame.known, offsets) if len(offsets) else np.zeros(0, np.bool_)
    return frame.take(~drop) if drop.any() else frame


def _envelope(batch: RecordBatch) -> dict[str, Array]:
    return {
        "_offset": batch.offsets,
        "_source": np.array(batch.sources(), object),
        "_id": np.array(batch.ids(), object),
        "_time": batch.time,
        "_received": batch.received,
        "_client_time": batch.client_time,
        "_available": batch.available,
        "_subject": np.array(batch.subjects(), object),
        "_tie": batch.tie.view(np.int64),
        "_flags": batch.flags.astype(np.int64),
    }


def _event_rows(run: Run, schema: BodySchema) -> list[Any]:
    """Return the bodies of a run as rows; None for one that cannot be read."""
    if not run.opaque:
        try:
            rows: list[Any] = schema.read_all(run.packed)
        except UNREADABLE:
            pass
        else:
            if len(rows) != run.rows:
                raise CorruptData(f"A batch has {len(rows)} bodies for {run.rows} rows.")
            return rows
    return [_try(schema.read, body) for body in run.bodies()]


def _try(read: Any, body: bytes) -> Any:
    try:
        return read(body)
    except (*UNREADABLE, CorruptData):
        return None


def _prediction(body: bytes) -> tuple[Any, ...]:
    prediction = decode_prediction(body)
    values = {name: getattr(prediction, name) for name in _PREDICTION_FIELDS}
    values |= {name: _to_json(values[name]).decode() for name in _JSON}
    values["vectors"] = np.frombuffer(prediction.vectors, "<f4")
    values["scores"] = np.frombuffer(prediction.scores, "<f8")
    values["item_propensities"] = np.frombuffer(prediction.item_propensities, "<f8")
    return tuple(values.values())


def _prediction_columns(rows: Sequence[tuple[Any, ...]]) -> list[Column]:
    columns = []
    for type_, values in zip(_PREDICTION_FIELDS.values(), zip(*rows, strict=True), strict=True):
        if type_ in ("int", "time", "float"):
            array: Array = np.array(values, np.float64 if type_ == "float" else np.int64)
        else:
            array = np.empty(len(values), object)
            array[:] = values
        columns.append(_all(array))
    return columns


def _rows(table: LakeTable, envelope: dict[str, Array], columns: Sequence[Column]) -> Rows:
    own = {field.name: column for field, column in zip(table.fields, columns, strict=True)}
    return Rows(table, {name: _all(values) for name, values in envelope.items()} | own)


def _opaque(table: LakeTable, envelope: dict[str, Array], bodies: Sequence[bytes]) -> Rows:
    return _rows(table, envelope, [_all(np.array(bodies, object))])


def _chosen(envelope: dict[str, Array], rows: Array) -> dict[str, Array]:
    return {name: values[rows] for name, values in envelope.items()}


def _all(values: Array) -> Column:
    return Column(values, np.ones(len(values), np.bool_))
