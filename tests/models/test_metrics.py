"""Metrics against their textbook forms, and intervals that say no when they must."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.errors import InputError
from feilun.models.examples import Examples
from feilun.models.metrics import compare, evaluate

NAN = float("nan")


def examples(y, groups=None, cluster=None):
    y = np.asarray(y, np.float64)
    groups = np.asarray([len(y)] if groups is None else groups, np.int64)
    cluster = np.arange(len(y)) if cluster is None else np.asarray(cluster, np.int64)
    requests = len(groups)
    return Examples(
        features=("a",),
        x=np.zeros((len(y), 1), np.float32),
        y=y,
        groups=groups,
        as_of=np.arange(requests),
        offset=np.arange(requests),
        version=np.zeros(requests, np.int64),
        cluster=cluster,
        served=np.full(len(y), NAN),
        place=np.full(len(y), -1),
    )


def test_precision_counts_hits_among_the_first_k():
    data = examples([1, 0, 1, 0, 1], groups=[3, 2], cluster=[0, 0, 0, 1, 1])
    scores = np.array([3.0, 2, 1, 5, 4])
    assert evaluate("precision@1", data, scores) == 1 / 2
    assert evaluate("precision@2", data, scores) == 2 / 4
    assert evaluate("precision@10", data, scores) == 3 / 20


def test_precision_keeps_the_order_of_equal_scores_and_skips_what_was_not_shown():
    data = examples([0, 1, 1], groups=[3], cluster=[0, 0, 0])
    assert evaluate("precision@1", data, np.array([1.0, 1, 1])) == 0
    assert evaluate("precision@2", data, np.array([1.0, -np.inf, -np.inf])) == 0


def test_errors_of_numbers():
    data = examples([2, 0, 4])
    scores = np.array([1.0, 1, 4])
    assert evaluate("wape", data, scores) == 2 / 6
    assert evaluate("rmse", data, scores) == pytest.approx((2 / 3) ** 0.5)


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40))
def test_auc_is_the_chance_of_the_right_order(rows):
    y = np.array([outcome for outcome, _ in rows])
    scores = np.array([score for _, score in rows], float)
    pairs = [(a > b) + (a == b) / 2 for a in scores[y] for b in scores[~y]]
    found = evaluate("auc", examples(y), scores)
    if pairs:
        assert found == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(found)


@pytest.mark.parametrize("name", ["auc", "precision@2", "wape", "rmse"])
def test_the_better_scores_are_better(name):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600).astype(float)
    data = examples(y, groups=[6] * 100, cluster=np.repeat(np.arange(100), 6))
    good, bad = y + rng.normal(0, 0.4, 600), y + rng.normal(0, 3.0, 600)
    up = compare(name, data, good, bad, confidence=0.95, seed=1)
    assert 0 < up.low < up.estimate < up.high
    assert up.clusters == 100
    down = compare(name, data, bad, good, confidence=0.95, seed=1)
    assert (down.estimate, down.low, down.high) == pytest.approx((-up.estimate, -up.high, -up.low))
    same = compare(name, data, good, good, confidence=0.95, seed=1)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    assert up == compare(name, data, good, bad, confidence=0.95, seed=1)


@pytest.mark.parametrize("name", ["auc", "precision@2", "wape", "rmse"])
def test_the_interval_holds_no_difference_as_often_as_it_says(name):
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(60):
        y = rng.integers(0, 2, 300).astype(float)
        data = examples(y, groups=[6] * 50, cluster=np.repeat(np.arange(50), 6))
        a, b = y + rng.normal(0, 1, (2, 300))
        found = compare(name, data, a, b, confidence=0.9, seed=trial)
        held += found.low <= 0 <= found.high
    assert 46 <= held <= 60  # 90% of 60 is 54; three standard deviations are 7


def test_rows_of_one_cluster_are_not_independent():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40).astype(float)
    a, b = y + rng.normal(0, 1, (2, 40))
    once = examples(y, cluster=np.arange(40))
    copied = examples(np.tile(y, 25), cluster=np.tile(np.arange(40), 25))
    one = compare("rmse", once, a, b, confidence=0.95, seed=0)
    many = compare("rmse", copied, np.tile(a, 25), np.tile(b, 25), confidence=0.95, seed=0)
    assert many.high - many.low == pytest.approx(one.high - one.low)


@pytest.mark.parametrize("name", ["auc", "precision@2", "wape", "rmse"])
@pytest.mark.parametrize("broken", [NAN, np.inf])
@settings(max_examples=10)
@given(row=st.integers(0, 5))
def test_scores_that_are_no_numbers_are_not_evaluable(name, broken, row):
    data = examples([1, 0, 1, 0, 1, 0], groups=[3, 3])
    good, bad = np.arange(6.0), np.arange(6.0)
    bad[row] = broken
    for pair in ((good, bad), (bad, good)):
        found = compare(name, data, *pair, confidence=0.95, seed=0)
        assert not found.evaluable
        assert np.isnan(found.low)
        assert found.reason
    assert np.isnan(evaluate(name, data, bad))


@pytest.mark.parametrize("name", ["auc", "precision@2", "wape", "rmse"])
def test_no_outcomes_are_not_evaluable(name):
    nothing = examples([], groups=[])
    found = compare(name, nothing, np.empty(0), np.empty(0), confidence=0.95, seed=0)
    assert not found.evaluable


def test_a_metric_without_a_value_is_not_evaluable():
    never = examples([0, 0, 0, 0])
    scores = np.arange(4.0)
    for name in ("auc", "wape"):
        assert not compare(name, never, scores, scores, confidence=0.95, seed=0).evaluable


def test_unknown_metrics():
    for name in ("precision@0", "precision", "AUC", ""):
        with pytest.raises(InputError):
            evaluate(name, examples([1, 0]), np.zeros(2))
