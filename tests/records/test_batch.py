"""Records in columns: the same records, whatever they are and however they are cut."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.errors import CorruptData, InputError
from feilun.records.batch import RecordBatch
from feilun.records.codec import decode_batch, encode_batch
from feilun.records.columns import ROW_LIMIT, Columns, Run
from feilun.records.record import IMPORTED, LATE, Record
from feilun.testing.records import START, make_record

_int64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([START, START + 1])
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_value = st.recursive(st.none() | _int64 | st.floats() | _text, st.lists, max_leaves=4)


def _records():
    return st.builds(
        Record,
        schema=st.sampled_from(["a", "b", "c"]) | _text,
        source=st.sampled_from(["web", "app"]) | _text,
        id=_text,
        time=_int64,
        received=_int64,
        client_time=_int64,
        available=_int64,
        subject=st.sampled_from(["", "u=1"]) | _text,
        digest=st.binary(min_size=16, max_size=16),
        body=st.lists(_value, max_size=3).map(msgspec.msgpack.encode) | st.binary(max_size=9),
        flags=st.sampled_from([0, 0, LATE, IMPORTED, 255]),
    )


_rows = st.lists(_records() | st.none(), max_size=8)
_bases = st.integers(0, 2**62)


def _pairs(base, rows):
    return [(base + place, row) for place, row in enumerate(rows) if row is not None]


@settings(deadline=None, max_examples=50)
@given(_bases, _rows)
def test_batches_survive_their_bytes(base, rows):
    batch = decode_batch(encode_batch(base, rows))
    assert (batch.base, batch.end, len(batch)) == (base, base + len(rows), len(_pairs(base, rows)))
    assert batch.records() == _pairs(base, rows)


@settings(deadline=None, max_examples=50)
@given(_bases, _rows)
def test_columns_say_what_the_records_say(base, rows):
    batch = decode_batch(encode_batch(base, rows))
    records = dict(_pairs(base, rows))
    of = [records[offset] for offset in batch.offsets.tolist()]
    assert sorted(records) == sorted(batch.offsets.tolist())
    for name in ("time", "received", "client_time", "available", "flags", "tie"):
        column = getattr(batch, name)
        assert column.tolist() == [getattr(record, name) for record in of]
    assert batch.tie.dtype == np.uint64
    assert batch.subjects() == [record.subject for record in of]
    assert batch.sources() == [record.source for record in of]
    assert batch.ids() == [record.id for record in of]
    assert [run.schema for run in batch.runs for _ in range(run.rows)] == [r.schema for r in of]
    assert [body for run in batch.runs for body in run.bodies()] == [r.body for r in of]
    for run in batch.runs:
        if not run.opaque:
            whole = msgspec.msgpack.decode(run.packed, type=list[msgspec.Raw])
            assert [bytes(value) for value in whole] == run.bodies()


@settings(deadline=None, max_examples=50)
@given(_bases, _rows, st.integers(-2, 10), st.integers(-2, 10))
def test_a_part_is_the_records_of_its_offsets(base, rows, start, stop):
    start, stop = base + start, base + max(start, stop)
    part = decode_batch(encode_batch(base, rows)).between(start, stop)
    assert part.records() == [pair for pair in _pairs(base, rows) if start <= pair[0] < stop]
    assert part.tie.tolist() == [
        dict(part.records())[offset].tie for offset in part.offsets.tolist()
    ]
    if base < stop and start < base + len(rows):
        assert (part.base, part.end) == (max(base, start), min(base + len(rows), stop))


@settings(deadline=None, max_examples=50)
@given(_bases, _rows, st.sets(st.integers(0, 9)))
def test_a_batch_without_some_is_as_if_they_were_erased(base, rows, places):
    part = decode_batch(encode_batch(base, rows)).without({base + place for place in places})
    left = [None if place in places else row for place, row in enumerate(rows)]
    assert part.records() == _pairs(base, left)
    assert (part.base, part.end) == (base, base + len(rows))


@settings(deadline=None, max_examples=50)
@given(_bases, _rows)
def test_a_batch_without_what_is_late(base, rows):
    kept = decode_batch(encode_batch(base, rows)).unflagged(LATE)
    assert kept.records() == [pair for pair in _pairs(base, rows) if not pair[1].flags & LATE]


def test_a_batch_of_a_full_segment_is_one_call_to_decode():
    records = [make_record(str(n), n, n / 2, str(n)) for n in range(1_024)]
    (run,) = decode_batch(encode_batch(0, records)).runs
    rows = msgspec.msgpack.decode(run.packed, type=list[tuple[int, float, str]])
    assert rows == [(n, n / 2, str(n)) for n in range(1_024)]


@pytest.mark.parametrize(
    "bodies",
    [
        (b"\x92\x01", b"\x02"),  # only together are they one array of one array
        (b"", b"\x01\x02"),
        (b"\xc1", b"\x90"),
        (b"\x91" * 100_000 + b"\xc0", b"\x90"),
    ],
)
def test_bodies_that_are_not_each_a_value_stay_apart(bodies):
    records = [msgspec.structs.replace(make_record(str(n)), body=b) for n, b in enumerate(bodies)]
    batch = decode_batch(encode_batch(0, records))
    assert batch.runs[0].opaque
    assert [record.body for _, record in batch.records()] == list(bodies)


@pytest.mark.parametrize(
    "change", [{"time": 2**63}, {"received": -(2**63) - 1}, {"digest": b"short"}, {"flags": 256}]
)
def test_what_no_column_can_hold_is_refused(change):
    with pytest.raises(InputError):
        encode_batch(0, [msgspec.structs.replace(make_record("1"), **change)])


def test_more_rows_than_places_are_refused():
    with pytest.raises(InputError):
        encode_batch(0, [None] * (ROW_LIMIT + 1))


@pytest.mark.parametrize(
    "change",
    [
        {"client_time": b"\0" * 7},
        {"received": b""},
        {"flags": b""},
        {"digest": b"\0" * 15},
        {"id": b"\x93\xa1a\xa1b\xa1c"},
        {"id": b"\xc1"},
        {"subject": b"\x91\xa1\xff"},
        {"runs": [Run("click.v1.00000000", 2, b"\x91\x90")]},
        {"runs": [Run("click.v1.00000000", 2, b"\x92\x90\x90", opaque=True)]},
    ],
)
def test_columns_that_do_not_fit_together_are_found(change):
    columns = RecordBatch.of(0, [make_record("1"), make_record("2")]).columns
    fields = {name: getattr(columns, name) for name in Columns.__struct_fields__}
    batch = RecordBatch(0, 2, Columns(**{**fields, **change}))
    with pytest.raises(CorruptData):
        batch.records()


def test_ties_that_do_not_fit_their_rows_are_found():
    columns = RecordBatch.of(0, [make_record("1"), make_record("2")]).columns
    batch = RecordBatch(0, 2, msgspec.structs.replace(columns, tie=b"\0" * 24))
    with pytest.raises(CorruptData):
        batch.tie.sum()
