"""What a spread, an estimate and a bound are worth, on more values than a law tries."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from feilun.aggregation import EventFrame
from feilun.aggregation.frames import Column
from feilun.aggregation.statistics import Window, statistic_of
from feilun.aggregation.statistics.hashing import hash_values
from feilun.clock import HOUR
from feilun.definitions.specs import FeatureSpec, FoldSpec
from feilun.testing.one_fold import fold, merge, read

NOW = 10**15
ALL = np.array([0])


def feature(kind, dtype="int", hop=0, quantile=0.5, n=1, is_list=False, dim=0):
    spec = FoldSpec(kind, "click", "value", dtype, (), hop, "UTC", dim=dim)
    return FeatureSpec(
        "view", "feature", spec, None, 0, dtype, is_list, n, None, None, quantile=quantile
    )


def frame(values, times=None, dtype=None):
    values = np.array(values, dtype)
    size = len(values)
    return EventFrame(
        np.zeros(size, np.int64) if times is None else np.asarray(times),
        hash_values(np.arange(size)),
        np.zeros(size, np.int64),
        {"value": Column(values, np.ones(size, np.bool_))},
    )


def value(of, *parts):
    tiles = fold(of.fold, parts[0])
    for part in parts[1:]:
        tiles = merge(of.fold, tiles, fold(of.fold, part))
    column = read(of, tiles, None, NOW)
    return column.values.tolist()[0] if column.present[0] else None


def alone(of, events):
    """Return the value of the one key as a request for a single row reads it."""
    rows = fold(of.fold, events).rows
    columns = [rows[name].tolist() for name in rows.dtype.names]
    return statistic_of(of.fold).finish_one(columns, of, NOW)


def test_a_spread_is_that_of_a_sample():
    assert value(feature("var"), frame([1, 2, 3, 4])) == pytest.approx(5 / 3)
    assert value(feature("std", "float"), frame([1.0, 3.0])) == pytest.approx(math.sqrt(2))
    assert value(feature("var"), frame([7])) is None
    assert value(feature("std", "bool"), frame([True, True, False])) == pytest.approx(3**-0.5)


def test_equal_values_have_no_spread_at_all():
    assert value(feature("std", "float"), frame([0.1] * 7), frame([0.1] * 4)) == 0.0


def test_a_small_spread_far_from_zero_survives():
    far = 1e9 + np.array([4.0, 7.0, 13.0, 16.0])
    assert value(feature("var", "float"), frame(far[:1]), frame(far[1:])) == pytest.approx(30.0)


def test_a_spread_neither_overflows_nor_vanishes():
    assert value(feature("std", "float"), frame([1e308, -1e308])) == pytest.approx(2**0.5 * 1e308)
    largest = feature("var", "float")
    assert value(largest, frame([1e308, -1e308])) == sys.float_info.max
    assert alone(largest, frame([1e308, -1e308])) == sys.float_info.max
    assert value(feature("std", "float"), frame([1e-200, 3e-200])) == pytest.approx(2**0.5 * 1e-200)


@pytest.mark.parametrize("lives", [0, 0.5, 1, 1074, 1500.25, 1900])
def test_what_decays_counts_for_as_long_as_a_float_can_hold_it(lives):
    of = feature("decayed", "float")
    of = replace(of, fold=replace(of.fold, half_life=HOUR))
    events = frame([1e308, -1e308, 1e308], [NOW - round(lives * HOUR)] * 3)
    exact = math.exp(math.log(1e308) - lives * math.log(2))
    assert value(of, events) == pytest.approx(exact, rel=1e-9)
    assert alone(of, events) == pytest.approx(exact, rel=1e-9)
    newer = frame([0.0], [NOW])
    assert value(of, events, newer) == pytest.approx(exact, rel=1e-9)
    ages = replace(of, fold=replace(of.fold, half_life=1))
    assert value(ages, frame([1e308], [0])) == alone(ages, frame([1e308], [0])) == 0.0


def test_distinct_is_exact_below_the_cap_and_over_tiles():
    of = feature("distinct", hop=HOUR)
    values = np.arange(1500) % 750
    assert value(of, frame(values, values // 250 * HOUR)) == 750  # three tiles of 250
    assert value(of, frame(np.arange(511))) == 511
    texts = np.array([f"item {n}" for n in range(400)] * 2, object)
    assert value(feature("distinct", "str"), frame(texts, dtype=object)) == 400


@pytest.mark.parametrize("size", [600, 5_000, 50_000])
def test_an_estimate_is_within_its_standard_error(size):
    errors = []
    for seed in range(40):
        values = np.random.default_rng(seed).integers(0, 2**62, size)
        errors.append(value(feature("distinct"), frame(values)) / size - 1)
    allowed = 1 / math.sqrt(510)
    assert max(map(abs, errors)) < 3.5 * allowed
    assert abs(np.mean(errors)) < 3 * allowed / math.sqrt(40)
    assert np.std(errors) < 1.3 * allowed


def test_tiles_with_the_same_values_count_them_once():
    of = feature("distinct", hop=HOUR)
    values = np.tile(np.arange(3000), 4)
    times = np.repeat(np.arange(4), 3000) * HOUR
    assert value(of, frame(values, times)) == pytest.approx(3000, rel=0.13)
    apart = value(of, frame(values + times // HOUR * 10_000, times))
    assert apart == pytest.approx(12_000, rel=0.07)  # each tile is a sample of its own


def test_hashes_are_the_same_for_ever():
    """Stored states depend on them: they never change."""
    of_each = [
        hash_values(np.array([-1, 2**62])),
        hash_values(np.array([0.5, -0.0])),
        hash_values(np.array([False, True])),
        hash_values(np.array(["", "京"], object)),
    ]
    assert [[f"{h:016x}" for h in hashes.tolist()] for hashes in of_each] == [
        ["e4d971771b652c20", "00aa50ea8e0fa9eb"],
        ["f456984dd1d8ce6d", "e220a8397b1dcdaf"],
        ["e220a8397b1dcdaf", "910a2dec89025cc1"],
        ["b4b2797457a0a6e4", "599830ffdf0d1b06"],
    ]


@pytest.mark.parametrize(
    ("quantile", "expected"), [(0.0, 1.0), (0.49, 2.0), (0.5, 3.0), (0.99, 4.0), (1.0, 5.0)]
)
def test_a_quantile_is_a_value_that_came_the_lower_of_two(quantile, expected):
    assert value(feature("quantile", quantile=quantile), frame([5, 1, 4, 2, 3])) == expected


def test_quantiles_of_many_are_within_a_hundredth():
    values = np.random.default_rng(3).lognormal(3, 2, 20_000) * np.where(
        np.arange(20_000) % 5, 1, -1
    )
    parts = frame(values[:7_000]), frame(values[7_000:])
    for quantile in (0.01, 0.1, 0.5, 0.9, 0.999):
        exact = np.quantile(values, quantile, method="lower")
        found = value(feature("quantile", "float", quantile=quantile), *parts)
        assert abs(found - exact) <= abs(exact) / 128


def test_a_tile_of_quantiles_has_a_bounded_number_of_rows():
    steps = np.ldexp(1 + np.arange(256) / 256, np.arange(-60, 90)[:, None]).ravel()
    rows = fold(feature("quantile", "float").fold, frame([*steps, *-steps, 0.0])).rows
    assert len(rows) == 12_035


def zipf(seed, size, kinds=20_000):
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, kinds + 1)
    return random.choice(kinds, size, p=shares / shares.sum())


def test_top_is_exact_to_the_cap():
    values = np.repeat(np.arange(512), np.arange(512) + 1)
    assert value(feature("top", n=3, is_list=True), frame(values)) == [511, 510, 509]


def test_beyond_the_cap_the_bounds_contain_the_truth_and_the_heavy_are_found():
    of, values = feature("top", hop=HOUR), zipf(1, 60_000)
    times = np.arange(60_000) // 10_000 * HOUR
    tiles = fold(of.fold, frame(values, times))
    assert np.unique(tiles.rows["time"], return_counts=True)[1].max() <= 512 + 512
    window = Window(of, tiles.rows, tiles.offsets, NOW)
    tally = statistic_of(of.fold).tally(window)
    exact = np.bincount(values, minlength=20_000)
    assert (tally.low <= exact[tally.values]).all()
    assert (exact[tally.values] <= tally.high).all()
    assert set(range(30)) <= set(tally.values.tolist())
    assert set(tally.values[:10].tolist()) >= set(range(8))


def test_top_beyond_the_cap_does_not_depend_on_order_or_split():
    of, values = feature("top", n=20, is_list=True), zipf(2, 30_000)
    events = frame(values)
    order = np.random.default_rng(5).permutation(len(values))
    parts = [events.take(order[at::7]) for at in range(7)]
    whole, merged = fold(of.fold, events), fold(of.fold, parts[0])
    for part in parts[1:]:
        merged = merge(of.fold, fold(of.fold, part), merged)
    assert merged.rows.tolist() == whole.rows.tolist()


def test_vectors_are_kept_and_averaged():
    vectors = [[1.0, 2.0], [3.0, -2.0]]
    events = frame(vectors, [5, 4])
    assert value(feature("last", "vector", dim=2), events) == [1.0, 2.0]
    assert value(feature("mean", "vector", dim=2), events) == [2.0, 0.0]
    nothing = read(feature("mean", "vector", dim=2), fold(feature("mean", "vector", dim=2).fold,
                   events.take(ALL[:0])), np.array([-1]), NOW)  # fmt: skip
    assert (nothing.values.shape, nothing.present.tolist()) == ((1, 2), [False])
    assert np.isnan(nothing.values).all()
