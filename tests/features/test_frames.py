from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feilun.definitions.specs import EventSpec, FieldSpec, Project
from feilun.errors import CorruptData
from feilun.features.frames import FrameDecoder, empty_frame, event_frames
from feilun.records.batch import RecordBatch
from feilun.records.codec import decode_batch, encode_batch
from feilun.records.record import IMPORTED, LATE, PREDICTION_SCHEMA
from feilun.records.schema import schemas_of
from feilun.testing.records import START, make_record


def test_columns_have_the_fields_types_and_masks(shop):
    records = [shop.buy(1, 2, "a", 1.5), shop.buy(3, 4)]
    frame = event_frames(shop.project(), [(10, records[0]), (12, records[1])])["buy"]
    assert frame.time.tolist() == [r.time for r in records]
    assert frame.tie.tolist() == [r.tie for r in records]
    assert frame.known.tolist() == [10, 12]
    types = {name: column.values.dtype for name, column in frame.columns.items()}
    assert types == {"user": np.int64, "item": np.int64, "city": object, "price": np.float64}
    assert frame.columns["user"].values.tolist() == [1, 3]
    assert frame.columns["city"].present.tolist() == [True, False]
    assert frame.columns["price"].present.tolist() == [True, False]
    assert frame.columns["price"].values[0] == 1.5


def test_more_records_than_a_chunk_keep_their_rows_together(shop):
    records = [(n, shop.buy(n, n + 1, str(n), float(n))) for n in range(1300)]
    frame = event_frames(shop.project(), records)["buy"]
    order = np.argsort(frame.known)
    assert frame.columns["user"].values[order].tolist() == list(range(1300))
    assert frame.columns["city"].values[order].tolist() == [str(n) for n in range(1300)]


def test_known_may_be_the_time_at_which_it_became_known(shop):
    record = msgspec.structs.replace(shop.buy(1, 1), available=77)
    frames = event_frames(shop.project(), [(5, record)], known="available")
    assert frames["buy"].known.tolist() == [77]


def test_late_unknown_and_system_records_are_left_out(shop):
    unknown = msgspec.structs.replace(shop.buy(1, 1), schema="sell.v1.00000000")
    prediction = msgspec.structs.replace(shop.buy(1, 1), schema=PREDICTION_SCHEMA)
    records = [shop.buy(1, 1, flags=LATE), unknown, unknown, prediction, shop.buy(1, 1)]
    decoded = FrameDecoder(shop.project()).decode(enumerate(records))
    assert decoded.frames["buy"].known.tolist() == [4]
    assert decoded.unknown == {"sell.v1.00000000": 2}
    assert decoded.unusable == []


def test_earlier_shapes_of_an_event_are_understood(shop):
    grown = replace(
        shop.event,
        version=2,
        fields=(*shop.event.fields, FieldSpec("channel", "str", optional=True)),
    )
    new = msgspec.structs.replace(
        shop.buy(2, 2),
        schema=grown.schema_id,
        body=msgspec.msgpack.encode((2, 2, None, None, "web")),
    )
    frame = event_frames(shop.project(event=grown), [(0, shop.buy(1, 1, "a")), (1, new)])["buy"]
    order = np.argsort(frame.known)
    channel = frame.columns["channel"].take(order)
    assert channel.present.tolist() == [False, True]
    assert channel.values[1] == "web"
    assert frame.columns["city"].present[order].tolist() == [True, False]


def test_a_shape_without_a_required_field_is_unknown(shop):
    grown = replace(shop.event, fields=(*shop.event.fields, FieldSpec("channel", "str")))
    decoded = FrameDecoder(shop.project(event=grown)).decode([(0, shop.buy(1, 1))])
    assert (decoded.frames, list(decoded.unknown)) == ({}, [shop.event.schema_id])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        *map(msgspec.msgpack.encode, [(1,), ("1", 2, None, None), (2**63, 2, None, None), {}]),
    ],
)
def test_what_is_not_its_schema_is_named_and_the_rest_is_read(shop, body):
    broken = msgspec.structs.replace(shop.buy(1, 1), body=body)
    decoded = FrameDecoder(shop.project()).decode(
        [(0, shop.buy(7, 7)), (1, broken), (2, shop.buy(8, 8))]
    )
    assert decoded.frames["buy"].columns["user"].values.tolist() == [7, 8]
    assert [(u.offset, u.record) for u in decoded.unusable] == [(1, broken)]
    assert shop.event.schema_id in decoded.unusable[0].reason


def test_an_empty_frame_has_the_columns(shop):
    frame = empty_frame(shop.event)
    assert len(frame) == 0
    assert {n: c.values.dtype.kind for n, c in frame.columns.items()} == {
        "user": "i", "item": "i", "city": "O", "price": "f",
    }  # fmt: skip


CLICK = EventSpec(
    "click",
    1,
    (
        FieldSpec("user", "int"),
        FieldSpec("paid", "float", optional=True),
        FieldSpec("city", "str"),
        FieldSpec("spot", "vector", optional=True, dim=2),
        FieldSpec("new", "bool", optional=True),
    ),
    "user",
)
VIEW = EventSpec("view", 1, (FieldSpec("user", "int"),), None)


def project_of(*events):
    return Project("shop", "UTC", {}, {event.name: event for event in events}, {}, {}, {}, {})


_int64 = st.integers(-(2**63), 2**63 - 1)
_float = st.floats(allow_nan=False)
_click = st.tuples(
    _int64,
    st.none() | _float,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    st.none() | st.lists(_float, min_size=2, max_size=2),
    st.none() | st.booleans(),
)


@st.composite
def _record(draw):
    schema, values = draw(
        st.tuples(st.just(CLICK.schema_id), _click)
        | st.tuples(st.just(VIEW.schema_id), st.tuples(_int64))
        | st.tuples(st.just("sell.v1.0"), st.just((1,)))
        | st.tuples(st.just(PREDICTION_SCHEMA), st.just((1,)))
    )
    body = msgspec.msgpack.encode(values)
    if draw(st.integers(0, 5)) == 0:
        body = draw(st.sampled_from([b"", b"\xc1", b"\x90", body[:-1], b"\x91\xa1\xff"]))
    return msgspec.structs.replace(
        make_record(str(draw(st.integers(0, 9))), time=START + draw(st.integers(0, 5))),
        schema=schema,
        body=body,
        available=draw(_int64),
        flags=draw(st.sampled_from([0, 0, 0, LATE, IMPORTED])),
    )


def same(a, b):
    order, other = np.argsort(a.known, kind="stable"), np.argsort(b.known, kind="stable")
    assert a.known[order].tolist() == b.known[other].tolist()
    assert sorted(zip(a.known, a.time, a.tie, strict=True)) == sorted(
        zip(b.known, b.time, b.tie, strict=True)
    )
    for name, column in a.columns.items():
        mine, theirs = column.take(order), b.columns[name].take(other)
        assert mine.values.dtype == theirs.values.dtype
        assert mine.present.tolist() == theirs.present.tolist()
        assert mine.values.tolist() == theirs.values.tolist()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(st.none() | _record(), max_size=8), max_size=4))
def test_batches_decode_to_what_their_records_do(groups):
    decoder = FrameDecoder(project_of(CLICK, VIEW))
    batches, base = [], 100
    for rows in groups:
        batches.append(decode_batch(encode_batch(base, rows)))
        base += len(rows)
    pairs = [pair for batch in batches for pair in batch.records()]
    fast, slow = decoder.decode_batches(batches), decoder.decode(pairs)
    assert fast.unknown == slow.unknown
    assert sorted(fast.unusable) == sorted(slow.unusable)
    assert fast.frames.keys() == slow.frames.keys()
    for name, frame in fast.frames.items():
        same(frame, slow.frames[name])
    available = decoder.decode_batches(batches, "available")
    for name, frame in available.frames.items():
        kept = dict(pairs)
        assert frame.known.tolist() == [
            kept[offset].available for offset in fast.frames[name].known.tolist()
        ]


def test_many_batches_of_several_sizes_and_schemas(shop):
    rows = [
        shop.buy(n, n + 1, str(n) if n % 3 else None, n / 2)
        if n % 5
        else make_record(f"view-{n}", n, schema=VIEW.schema_id)
        for n in range(5_000)
    ]
    cuts = [0, 1, 3, 20, 600, 1_500, 2_524, 2_525, 5_000]
    batches = [RecordBatch.of(start, rows[start:stop]) for start, stop in pairwise(cuts)]
    decoder = FrameDecoder(project_of(shop.event, VIEW))
    fast, slow = decoder.decode_batches(batches).frames, decoder.decode(enumerate(rows)).frames
    same(fast["buy"], slow["buy"])
    same(fast["view"], slow["view"])
    assert len(fast["buy"]) == 4_000


def test_vectors_are_rows_of_a_matrix():
    rows = [(1, None, "a", [1.0, -2], None), (2, None, "b", None, None)]
    records = [make_record(str(n), *row, schema=CLICK.schema_id) for n, row in enumerate(rows)]
    decoder = FrameDecoder(project_of(CLICK))
    for decoded in (decoder.decode(enumerate(records)),
                    decoder.decode_batches([RecordBatch.of(0, records)])):  # fmt: skip
        spot = decoded.frames["click"].columns["spot"]
        assert (spot.values.dtype, spot.values.shape) == (np.float64, (2, 2))
        assert spot.values.tolist() == [[1.0, -2.0], [0.0, 0.0]]
        assert spot.present.tolist() == [True, False]
        assert spot.take(np.array([1, 0, 1])).values.shape == (3, 2)
    assert empty_frame(CLICK).columns["spot"].values.shape == (0, 2)


@pytest.mark.parametrize("spot", [[1.0], [1.0, 2.0, 3.0], [], [1.0, "2"], "ab", 5])
def test_a_vector_of_another_length_is_unusable(spot):
    records = [
        make_record(str(n), n, None, "a", one, None, schema=CLICK.schema_id)
        for n, one in enumerate([[1.0, 2.0], spot])
    ]
    decoded = FrameDecoder(project_of(CLICK)).decode_batches([RecordBatch.of(7, records)])
    assert [u.offset for u in decoded.unusable] == [8]
    assert decoded.frames["click"].columns["spot"].values.tolist() == [[1.0, 2.0]]


def _declared(*fields, version=1):
    event = EventSpec("click", version, tuple(FieldSpec(*field) for field in fields), None)
    return event, schemas_of([event])


def _reread(history, event, now, *values):
    record = make_record("1", *values, schema=event.schema_id)
    decoder = FrameDecoder(project_of(now), history)
    decoded = decoder.decode([(0, record)])
    same_way = decoder.decode_batches([RecordBatch.of(0, [record])])
    assert decoded.unknown == same_way.unknown
    if not decoded.frames:
        return decoded.unknown
    same(decoded.frames["click"], same_way.frames["click"])
    columns = decoded.frames["click"].columns
    return {
        name: column.values[0].item() if hasattr(column.values[0], "item") else column.values[0]
        for name, column in columns.items()
        if column.present[0]
    }


def test_an_earlier_shape_is_read_by_the_names_of_its_fields():
    old, history = _declared(("gone", "str"), ("paid", "int"), ("user", "int"))
    now = EventSpec(
        "click",
        2,
        (
            FieldSpec("user", "int"),
            FieldSpec("channel", "str"),
            FieldSpec("paid", "float", optional=True),
            FieldSpec("spot", "vector", optional=True, dim=3),
        ),
        None,
    )
    assert _reread(history, old, now, "x", 5, 7) == {"user": 7, "paid": 5.0}
    assert _reread({}, old, now, "x", 5, 7) == {old.schema_id: 1}


def test_a_field_that_was_optional_may_be_absent():
    old, history = _declared(("user", "int", True), ("city", "str"))
    now, _ = _declared(("user", "int"), ("city", "str"))
    assert _reread(history, old, now, None, "a") == {"city": "a"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("x", "str"), ("x", "int")),
        (("x", "int"), ("x", "str")),
        (("x", "float"), ("x", "int")),
        (("x", "bool"), ("x", "int")),
        (("x", "vector", False, 2), ("x", "vector", False, 3)),
        (("x", "decimal"), ("x", "float")),
    ],
)
def test_a_field_of_another_type_makes_the_shape_unknown(before, after):
    old, history = _declared(("user", "int"), before)
    now, _ = _declared(("user", "int"), after)
    assert _reread(history, old, now, 1, 1) == {old.schema_id: 1}


def test_a_dropped_field_may_be_of_a_type_that_only_a_newer_version_knows():
    old, history = _declared(("user", "int"), ("x", "decimal"))
    now, _ = _declared(("user", "int"))
    assert _reread(history, old, now, 1, {"any": "thing"}) == {"user": 1}


def test_history_of_events_that_are_gone_is_of_no_matter(shop):
    decoder = FrameDecoder(shop.project(), schemas_of([CLICK]))
    decoded = decoder.decode([(0, make_record("1", 1, schema=CLICK.schema_id))])
    assert (decoded.frames, decoded.unknown) == ({}, {CLICK.schema_id: 1})


def test_history_that_cannot_be_read_is_said(shop):
    with pytest.raises(CorruptData):
        FrameDecoder(shop.project(), {"click.v1": b"\xc1"})


def test_bodies_beyond_the_rows_of_a_batch_are_found():
    batch = RecordBatch.of(0, [make_record("1", 1, schema=VIEW.schema_id)])
    run = msgspec.structs.replace(batch.runs[0], packed=b"\x92\x91\x01\x91\x02")
    broken = RecordBatch(0, 1, msgspec.structs.replace(batch.columns, runs=[run]))
    with pytest.raises(CorruptData):
        FrameDecoder(project_of(VIEW)).decode_batches([broken])
