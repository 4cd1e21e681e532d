from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from feilun.definitions.specs import FieldSpec
from feilun.features.frames import FrameDecoder, empty_frame, event_frames
from feilun.records.record import LATE, PREDICTION_SCHEMA


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
