"""Values worked out by hand, and what lies at the edges of the kernel."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from feilun.aggregation import Column, EventFrame, Family, Plan, encode_key, naive, past
from feilun.aggregation.single import KeyReader
from feilun.clock import DAY, HOUR, SECOND
from feilun.definitions.specs import EntitySpec, FeatureSpec, FoldSpec
from feilun.errors import CorruptData, DefinitionError
from feilun.testing.one_fold import decode, encode, expire, fold, merge, read, read_past, zero

USER = EntitySpec("user", "int")
ARRAYS = {"int": np.int64, "float": np.float64, "bool": np.bool_, "str": object}
KEY = encode_key((USER,), (1,))


def feature(kind, dtype="int", field="value", hop=0, n=1, half_life=0, **more):
    spec = FoldSpec(kind, "click", field, dtype, (USER,), hop, "Asia/Shanghai", n, half_life)
    plain = FeatureSpec("view", "feature", spec, None, 0, dtype, False, n, None, None)
    return replace(plain, **more)


def events(times, values=None, dtype="int", users=1, ties=0, known=0):
    size = len(times)
    present = np.ones(size, np.bool_)
    values = np.array(range(size) if values is None else values, ARRAYS[dtype])
    return EventFrame(
        np.array(times, np.int64),
        np.broadcast_to(np.array(ties, np.uint64), size),
        np.broadcast_to(np.array(known, np.int64), size),
        {
            "user": Column(np.broadcast_to(np.array(users, np.int64), size), present),
            "value": Column(values, present),
        },
    )


def value(of, frame, as_of):
    column = read(of, fold(of.fold, frame), None, as_of)
    return column.values.tolist()[0] if column.present[0] else None


@pytest.mark.parametrize(
    ("kind", "dtype", "values", "expected"),
    [
        ("count", "int", [5, 5, 7], 3),
        ("sum", "int", [5, 5, -7], 3),
        ("sum", "bool", [True, False, True], 2),
        ("sum", "float", [0.5, 0.25, -2.0], -1.25),
        ("mean", "int", [5, 5, 8], 6.0),
        ("mean", "bool", [True, False, True, True], 0.75),
        ("min", "float", [2.0, -1.5], -1.5),
        ("max", "bool", [False, True], True),
        ("first", "str", ["b", "a"], "b"),
        ("last", "str", ["b", "a"], "a"),
        ("top", "str", ["b", "a", "a"], "a"),
        ("top", "str", ["b", "a"], "a"),
        ("top", "bool", [True, False], False),
        ("since_last", "int", [5, 5], 99 / SECOND),
    ],
)
def test_values_worked_out_by_hand(kind, dtype, values, expected):
    result = value(feature(kind, dtype), events(range(len(values)), values, dtype), 100)
    assert result == expected
    assert type(result) is type(expected)


def test_last_n_is_newest_first_and_tie_decides_within_a_moment():
    frame = events([3, 1, 3, 2], [30, 10, 31, 20], ties=[9, 0, 8, 0])
    assert value(feature("last", n=3, is_list=True), frame, 4) == [30, 31, 20]


def test_top_n_is_by_count_then_by_value():
    frame = events(range(7), [5, 3, 3, 9, 9, 1, 5])
    assert value(feature("top", n=3, is_list=True), frame, 9) == [3, 5, 9]


def test_a_weight_halves_every_half_life():
    frame = events([0, 10], [4.0, 1.0], "float")
    decayed = feature("decayed", "float", half_life=10)
    assert value(decayed, frame, 20) == pytest.approx(1.5)
    assert value(replace(decayed, fold=replace(decayed.fold, field=None)), frame, 20) == (
        pytest.approx(0.75)
    )


def test_weights_that_vanish_are_nothing():
    frame = events([0, 10**9], [4.0, 1.0], "float")
    assert value(feature("decayed", "float", half_life=10), frame, 10**9 + 10) == 0.5


def test_first_is_by_time_before_tie():
    frame = events([2, 1], [20, 10], ties=[0, 9])
    assert value(feature("first"), frame, 3) == 10


@pytest.mark.parametrize(("kept", "wanted"), [(3, 2), (2, 3)])
def test_a_list_is_as_long_as_both_the_fold_and_the_feature_allow(kept, wanted):
    last = replace(feature("last", n=kept, is_list=True), n=wanted)
    assert value(last, events([1, 2, 3, 4]), 9) == [3, 2]
    frame = events([1, 2, 3, 4, 5], known=[0, 0, 0, 7, 0])
    assert read_past(last, frame, [KEY], np.array([9]), np.array([1])).values.tolist() == [[4, 2]]


@pytest.mark.parametrize("values", [[-1.0, -2.0, -1.5], [-2.0, -1.5, -1.0]])
def test_events_that_agree_in_all_else_are_ordered_by_value(values):
    frame = events([5, 5, 5], values, "float")
    assert value(feature("last", "float"), frame, 9) == -1.0
    assert value(feature("first", "float"), frame, 9) == -2.0


def test_a_window_has_an_exact_head_and_a_tail_rounded_to_the_hop():
    count = feature("count", hop=HOUR, window=2 * HOUR)
    times = [HOUR - 1, HOUR, 2 * HOUR, 3 * HOUR + 1]
    assert value(count, events(times), 3 * HOUR + 2) == 3
    assert value(count, events(times), 4 * HOUR) == 2


def test_today_begins_at_midnight_in_the_shop():
    midnight = 16 * HOUR  # 1970-01-02 in Shanghai
    today = feature("count", hop=DAY, calendar=1)
    two_days = replace(today, calendar=2)
    frame = events([midnight - DAY - 1, midnight - 1, midnight, midnight + HOUR])
    assert value(today, frame, midnight + DAY) == 0
    assert value(today, frame, midnight + DAY - 1) == 2
    assert value(two_days, frame, midnight + DAY - 1) == 3
    assert value(today, events([midnight - 1]), midnight) == 0


def test_a_value_is_past_its_ttl_when_it_is_that_old():
    last = feature("last", ttl=100)
    assert value(last, events([0], [7]), 99) == 7
    assert value(last, events([0], [7]), 100) is None
    newest_two = feature("last", n=2, is_list=True, ttl=100)
    assert value(newest_two, events([0, 50], [7, 8]), 120) == [8]


def test_ttl_is_for_what_keeps_events():
    with pytest.raises(DefinitionError, match="count takes no ttl"):
        value(feature("count", ttl=1), events([0]), 1)


@pytest.mark.parametrize(
    ("kind", "dtype", "is_list", "empty", "present"),
    [
        ("count", "int", False, 0, True),
        ("sum", "int", False, 0, True),
        ("sum", "float", False, 0.0, True),
        ("decayed", "float", False, 0.0, True),
        ("min", "int", False, 0, False),
        ("first", "str", False, None, False),
        ("last", "str", False, None, False),
        ("last", "int", True, [], False),
        ("top", "int", False, 0, False),
        ("top", "int", True, [], False),
    ],
)
def test_nothing_is_zero_or_missing(kind, dtype, is_list, empty, present):
    of = feature(kind, dtype, is_list=is_list, half_life=1)
    for column in (
        read(of, zero(of.fold), np.array([-1]), 5),
        read(of, decode(of.fold, [b"new"], [None]), None, 5),
        read_past(of, events([], [], dtype), [KEY], np.array([5]), np.array([9])),
        read_past(of, events([7], [0], dtype), [KEY], np.array([5]), np.array([9])),
    ):
        assert (column.values.tolist(), column.present.tolist()) == ([empty], [present])


@pytest.mark.parametrize("kind", ["mean", "since_last"])
def test_a_missing_float_is_nan(kind):
    column = read(feature(kind), zero(feature(kind).fold), np.array([-1, -1]), 5)
    assert np.isnan(column.values).all()
    assert not column.present.any()


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (feature("last", default=9), [0, 9]),
        (feature("last", is_list=True, default=[1, 2]), [[0], [1, 2]]),
        (feature("mean", default=0.5), [0.0, 0.5]),
        (feature("count", default=9), [1, 0]),
    ],
)
def test_the_default_stands_where_a_value_is_missing(of, expected):
    column = read(of, fold(of.fold, events([0])), np.array([0, -1]), 5)
    assert column.values.tolist() == expected
    assert column.present.tolist() == [True, of.fold.kind == "count"]


def test_rows_may_repeat_and_have_moments_of_their_own():
    since = feature("since_last")
    tiles = fold(since.fold, events([0, SECOND], users=[1, 2]))
    column = read(since, tiles, np.array([1, 0, -1, 1]), np.array([2, 2, 2, 3]) * SECOND)
    assert column.present.tolist() == [True, True, False, True]
    assert column.values[column.present].tolist() == [1.0, 2.0, 2.0]


def test_integers_add_exactly_and_stop_at_the_ends_of_int64():
    top, bottom = 2**63 - 1, -(2**63)
    total = feature("sum", hop=HOUR, window=DAY)
    for values, expected in (
        ([top, bottom, 5], 4),
        ([top, top, bottom], 2**63 - 2),
        ([top, 1], top),
        ([bottom, -1], bottom),
        ([bottom], bottom),
        ([top], top),
        ([-1, -1], -2),
    ):
        for times in ([0] * len(values), [i * HOUR for i in range(len(values))]):
            assert value(total, events(times, values), DAY) == expected
    assert value(feature("mean"), events([0, 0], [top, top]), 1) == float(top)


def test_floats_stop_at_the_largest():
    largest = sys.float_info.max
    total = feature("sum", "float", hop=HOUR, window=DAY)
    for times in ([0, 0, 0], [0, HOUR, 2 * HOUR]):
        assert value(total, events(times, [largest] * 3, "float"), DAY) == largest
        frame = events(times, [largest, largest, -largest], "float")
        assert value(total, frame, DAY) == largest
    mean = feature("mean", "float")
    assert value(mean, events([0, 0], [largest, largest], "float"), 1) == largest


def test_zero_has_no_sign_where_it_could_depend_on_order():
    for kind in ("min", "max"):
        for values in ([0.0, -0.0], [-0.0, 0.0]):
            assert str(value(feature(kind, "float"), events([0, 0], values, "float"), 1)) == "0.0"
    assert str(value(feature("last", "float"), events([0], [-0.0], "float"), 1)) == "-0.0"


def test_a_blob_of_version_2_is_these_bytes():
    """The format is stored: if this fails, write a new version beside the old."""
    count, texts = feature("count", hop=HOUR).fold, feature("last", "str", n=2).fold
    (stored,) = encode(count, fold(count, events([0, 1, HOUR])))
    assert stored == (KEY, bytes.fromhex(
        "0201000000000000" "f95a6c29ffffffff" "0200000000000000"
        "0000000000000000" "0200000000000000" "00a493d600000000" "0100000000000000"
    ))  # fmt: skip
    (stored,) = encode(texts, fold(texts, events([1, 2], ["北", "a"], "str", ties=[3, 4])))
    assert stored == (KEY, bytes.fromhex(
        "0201040000000000" "0972649effffffff" "0200000000000000"
        "0100000000000000" "0300000000000000" "0300000000000000"
        "0200000000000000" "0400000000000000" "0100000000000000"
        "e58c976100000000"
    ))  # fmt: skip


def sealed(blob):
    """The blob with the checksum of what it holds now."""
    words = memoryview(blob[:8] + bytes(8) + blob[16:]).cast("q")
    return blob[:8] + (-sum(words) % 2**64).to_bytes(8, "little") + blob[16:]


@pytest.mark.parametrize("dtype", ["int", "str"])
def test_every_flipped_bit_of_a_blob_is_found(dtype):
    spec = feature("last", dtype, n=2).fold
    ((key, blob),) = encode(spec, fold(spec, events([1, 2], ["1", "22"], dtype)))
    reader = KeyReader(Family((Plan((spec,)),)), [feature("last", dtype, n=2)])
    for place in range(8 * len(blob)):
        flipped = bytearray(blob)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(CorruptData, match="blob of tiles"):
            decode(spec, [b"other", key], [blob, bytes(flipped)])
        with pytest.raises(CorruptData, match="blob of tiles"):
            reader.read(bytes(flipped), 10)


@pytest.mark.parametrize("dtype", ["int", "str"])
def test_bytes_that_do_not_fit_are_refused(dtype):
    spec = feature("last", dtype, n=2).fold
    ((key, blob),) = encode(spec, fold(spec, events([1, 2], ["1", "2"], dtype)))
    other_version, other_plans = b"\x03" + blob[1:], blob[:1] + b"\x02" + blob[2:]
    cut, longer = blob[:-8], blob + bytes(8)
    too_many = sealed(blob[:16] + b"\x03" + blob[17:])
    negative = sealed(blob[:16] + b"\xff" * 8 + blob[24:])
    broken = [b"", other_version, other_plans, blob[:-1], blob + b"\0", blob[:3], cut, longer]
    for bad in [*broken, too_many, negative]:
        with pytest.raises(CorruptData, match="blob of tiles"):
            decode(spec, [b"other", key], [blob, bad])


def test_text_that_is_not_text_is_refused():
    spec = feature("last", "str").fold
    ((key, blob),) = encode(spec, fold(spec, events([1], ["é"], "str")))
    with pytest.raises(CorruptData, match="UTF-8"):
        decode(spec, [key], [sealed(blob.replace("é".encode(), b"\xff\xff"))])


def test_expiry_goes_by_the_end_of_the_tile():
    spec = feature("count", hop=HOUR).fold
    tiles = fold(spec, events([0, HOUR]))
    assert len(expire(spec, tiles, HOUR - 1).rows) == 2
    assert expire(spec, tiles, HOUR).rows["time"].tolist() == [HOUR]
    emptied = expire(spec, tiles, 2 * HOUR)
    assert (list(emptied.keys), len(emptied.rows)) == ([KEY], 0)
    assert encode(spec, emptied) == [(KEY, bytes.fromhex(
        "0201000000000000" "fefeffffffffffff" "0000000000000000"
    ))]  # fmt: skip
    forever = replace(spec, hop=0)
    assert len(expire(forever, fold(forever, events([0])), 10**15).rows) == 1


def test_expiry_of_events_goes_by_their_tile_or_their_time():
    spec = feature("last", hop=HOUR, n=5).fold
    tiles = fold(spec, events([0, HOUR - 1, HOUR]))
    assert len(expire(spec, tiles, HOUR - 1).rows) == 3
    assert len(expire(spec, tiles, HOUR).rows) == 1
    without_hop = replace(spec, hop=0)
    assert len(expire(without_hop, tiles, HOUR - 1).rows) == 2


def test_merging_keeps_keys_without_rows():
    spec = feature("count").fold
    merged = merge(spec, decode(spec, [b"b", b"a"], [None, None]), fold(spec, events([0])))
    assert (list(merged.keys), merged.offsets.tolist()) == ([b"a", b"b", KEY], [0, 0, 0, 1])


def test_an_event_without_its_key_or_its_field_is_left_out():
    frame = replace(
        events([0, 1, 2]),
        columns={
            "user": Column(np.array([1, 1, 1]), np.array([False, True, True])),
            "value": Column(np.array([1, 1, 1]), np.array([True, True, False])),
        },
    )
    assert value(feature("count", field=None), frame, 9) == 2
    assert value(feature("count"), frame, 9) == 1


@pytest.mark.parametrize("kind", ["count", "sum", "last", "top", "decayed"])
def test_a_read_of_the_past_is_the_same_in_pieces(kind, monkeypatch):
    random = np.random.default_rng(5)
    of = feature(kind, hop=HOUR, window=DAY, half_life=HOUR, n=3, is_list=kind in ("last", "top"))
    size = 300
    frame = EventFrame(
        random.integers(0, 5 * DAY, size),
        random.integers(0, 99, size).astype(np.uint64),
        random.permutation(size),
        events(range(size), random.integers(0, 9, size), users=random.integers(0, 4, size)).columns,
    )
    keys = [encode_key((USER,), (int(user),)) for user in random.integers(0, 5, 60)]
    as_of, known = random.integers(0, 6 * DAY, 60), random.integers(0, size, 60)
    whole = read_past(of, frame, keys, as_of, known)
    monkeypatch.setattr(past, "_ROWS_AT_ONCE", 7)
    pieces = read_past(of, frame, keys, as_of, known)
    assert pieces.values.tolist() == whole.values.tolist()
    for place in range(60):
        expected = naive(of, frame, keys[place], int(as_of[place]), int(known[place]))
        if kind == "decayed":
            assert whole.values[place] == pytest.approx(expected)
        else:
            assert (whole.values[place] if whole.present[place] else None) == expected


def test_a_late_newcomer_is_unknown_until_its_offset():
    count = feature("count")
    frame = events([0, 10, 20], known=[5, 90, 6])  # the second came long after
    keys, as_of = [KEY] * 3, np.array([100, 100, 15])
    column = read_past(count, frame, keys, as_of, np.array([7, 91, 7]))
    assert column.values.tolist() == [2, 3, 1]
