"""Thompson sampling draws from the beliefs that it says, as often as it says."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.aggregation.frames import Column
from feilun.definitions.loading import load_project
from feilun.definitions.specs import ThompsonSpec
from feilun.serving.answering.exploring import Evidence, Explorer
from feilun.serving.answering.thompson import BETA_ERROR, PLACE_ERROR, Beliefs

PROJECT = load_project(Path(__file__).with_name("sampled.py"))
RULE = PROJECT.capabilities["sampled"].explore
REQUESTS = 5_000

PRIORS = st.sampled_from([(1.0, 1.0), (0.1, 2.0), (2.0, 98.0), (0.5, 0.5)])


@st.composite
def parameters(draw, least=2, most=20):
    """Draw Betas of some items: any prior, up to a hundred thousand trials, at any rate."""
    success, failure = draw(PRIORS)
    items = draw(st.integers(least, most))
    logs = draw(st.lists(st.floats(0, 5), min_size=items, max_size=items))
    rates = draw(st.lists(st.floats(0, 1), min_size=items, max_size=items))
    trials = np.round(10 ** np.array(logs))
    successes = np.round(trials * rates)
    return success + successes, failure + trials - successes


def all_places(beliefs, items):
    """Return the probability of each item (row) at each place (column)."""
    chances = np.empty((items, items))
    for turn in range(items):
        order = [(turn + place) % items for place in range(items)]
        chances[order, range(items)] = beliefs.place_probabilities(order, items)
    return chances


def first_of_betas(a, b):
    """Return the probability of each item to have the highest of exactly Beta distributed rates."""
    from scipy import stats

    width = 7 / np.sqrt(a * b / (a + b))
    odds = np.linspace(
        (np.log(a / b) - width - 25 / a).min(), (np.log(a / b) + width + 25 / b).max(), 40_001
    )
    below = stats.beta(a[:, None], b[:, None]).cdf(1 / (1 + np.exp(-odds)))
    middle = (below[:, 1:] + below[:, :-1]) / 2
    return np.array(
        [
            (np.diff(below[item]) * np.delete(middle, item, axis=0).prod(axis=0)).sum()
            for item in range(len(a))
        ]
    )


# The probabilities.


@given(parameters())
@settings(max_examples=30)
def test_an_item_comes_first_as_often_as_with_exact_betas(betas):
    beliefs, items = Beliefs(*betas), len(betas[0])
    found = [
        beliefs.place_probabilities([item, *(set(range(items)) - {item})], 1)[0]
        for item in range(items)
    ]
    assert np.abs(found - first_of_betas(*betas)).max() < BETA_ERROR


@given(parameters())
@settings(max_examples=50)
def test_each_item_has_a_place_and_each_place_an_item(betas):
    items = len(betas[0])
    chances = all_places(Beliefs(*betas), items)
    assert (chances >= 0).all()
    assert np.abs(chances.sum(axis=0) - 1).max() < items * PLACE_ERROR
    assert np.abs(chances.sum(axis=1) - 1).max() < items * PLACE_ERROR


@given(parameters(most=5), st.data())
@settings(max_examples=50)
def test_the_lists_add_up_to_one_and_to_the_places_of_their_items(betas, data):
    items = len(betas[0])
    places = data.draw(st.integers(1, items))
    beliefs, total, by_place = Beliefs(*betas), 0.0, np.zeros((items, places))
    for shown in itertools.permutations(range(items), places):
        rest = [item for item in range(items) if item not in shown]
        chance = beliefs.list_probability([*shown, *rest], places)
        total += chance
        by_place[list(shown), range(places)] += chance
    assert total == pytest.approx(1, abs=1e-9)
    assert np.abs(by_place - all_places(beliefs, items)[:, :places]).max() < PLACE_ERROR


@pytest.mark.parametrize("items", [2, 7, 20, 50])
def test_of_what_is_alike_all_orders_are(items):
    """An order of twenty is one of 2.4e18; the probability is right to the last digits."""
    beliefs = Beliefs(np.full(items, 3.0), np.full(items, 40.0))
    for places in {1, items // 2, items}:
        found = beliefs.list_probability(list(range(items)), places)
        expected = math.factorial(items - places) / math.factorial(items)
        assert found == pytest.approx(expected, rel=1e-9)
    chances = beliefs.place_probabilities(list(range(items)), items)
    assert np.abs(chances - 1 / items).max() < PLACE_ERROR


def test_beliefs_far_apart_and_beyond_all_counts_are_ordered_for_certain():
    beliefs = Beliefs(np.array([1e12, 1.0, 1e12, 0.1]), np.array([1.0, 1e12, 1e12, 1e12]))
    order = beliefs.order([0.5, 0.5, 0.5, 0.01])
    assert order == [0, 2, 1, 3]
    assert beliefs.place_probabilities(order, 2) == pytest.approx([1, 1])
    assert beliefs.list_probability(order, 2) == pytest.approx(1)


# What is drawn.


def evidence(successes, trials, rule=RULE, present=None):
    items = [f"item {at}" for at in range(len(successes))]
    there = np.ones(len(items), np.bool_) if present is None else np.array(present)
    columns = {
        rule.successes.address: Column(np.array(successes), there),
        rule.trials.address: Column(np.array(trials), there),
    }
    return items, Evidence(rule, items, columns)


SUCCESSES, TRIALS = [30, 4, 0, 2, 9], [500, 40, 3, 90, 60]


def test_lists_and_items_come_as_often_as_was_logged():
    """Monte Carlo over ids: chi-square over the lists, 4.5 standard errors for each item."""
    from scipy import stats

    items, known = evidence(SUCCESSES, TRIALS)
    lists, placed, said, chances = Counter(), Counter(), {}, {}
    for number in range(REQUESTS):
        explorer = Explorer(RULE, f"recommend/r-{number}", known)
        drawn = explorer.of(explorer.choose(items, 2))
        lists[tuple(drawn.items)] += 1
        said[tuple(drawn.items)] = drawn.list_propensity
        shown = np.frombuffer(drawn.item_propensities, "<f8")
        for place, (item, chance) in enumerate(zip(drawn.items, shown, strict=True)):
            placed[item, place] += 1
            chances[item, place] = chance
    assert items[4] not in {item for item, _ in placed}  # behind the head of 4
    assert len(lists) == 4 * 3
    expected = np.array([REQUESTS * said[each] for each in lists])
    assert expected.sum() == pytest.approx(REQUESTS)
    square = ((np.array(list(lists.values())) - expected) ** 2 / expected).sum()
    assert square < stats.chi2(len(lists) - 1).ppf(0.9999)
    for what, count in placed.items():
        error = math.sqrt(REQUESTS * chances[what] * (1 - chances[what]))
        assert abs(count - REQUESTS * chances[what]) < 4.5 * error, (what, count, chances[what])


def test_a_drawn_rate_is_beta_distributed():
    """An item comes first exactly when its rate is above that of one whose rate is all but known.

    So how often it does tells the distribution of its rate, at any point of it.
    """
    from scipy import stats

    a, b = 5.0, 37.0
    for level in (0.02, 0.1, 0.3, 0.5, 0.8, 0.97, 0.999):
        rate = stats.beta(a, b).ppf(level)
        beliefs = Beliefs(np.array([a, 1e9 * rate]), np.array([b, 1e9 * (1 - rate)]))
        grid = (np.arange(4_000) + 0.5) / 4_000
        above = np.mean([beliefs.order([u, 0.5])[0] == 0 for u in grid])
        assert above == pytest.approx(1 - level, abs=BETA_ERROR)


def test_the_inverse_propensity_estimate_of_another_policy_is_unbiased():
    items, known = evidence(SUCCESSES, TRIALS)
    worth = dict(zip(items, [0.1, 0.3, 0.05, 0.6, 0.2], strict=True))
    policy = (items[0], items[1])  # seldom what is drawn
    random = np.random.default_rng(7)
    whole, by_item = [], []
    for number in range(REQUESTS):
        explorer = Explorer(RULE, f"r-{number}", known)
        drawn = explorer.of(explorer.choose(items, 2))
        rewards = [random.random() < worth[item] for item in drawn.items]
        chances = np.frombuffer(drawn.item_propensities)
        whole.append(sum(rewards) / drawn.list_propensity * (tuple(drawn.items) == policy))
        by_item.append(
            sum((np.array(rewards) / chances)[np.array(drawn.items) == np.array(policy)])
        )
    truth = worth[policy[0]] + worth[policy[1]]
    for estimates in (whole, by_item):
        error = np.std(estimates) / math.sqrt(REQUESTS)
        assert abs(np.mean(estimates) - truth) < 4 * error
        assert error < 0.2


@given(
    st.integers(0, 8),
    st.integers(0, 9),
    st.text(max_size=9),
    st.lists(st.integers(0, 99), max_size=8),
)
def test_a_draw_is_some_of_the_items_behind_the_head_as_ranked(size, k, seed, counts):
    counts = (counts + [0] * 8)[:size]
    items, known = evidence(counts, [100] * size)

    def draw():
        explorer = Explorer(RULE, seed, known)
        return explorer.of(explorer.choose(items, k))

    drawn = draw()
    assert len(set(drawn.items)) == len(drawn.items) == min(k, size)
    assert drawn.items[4:] == items[4:k]
    assert 0 < drawn.list_propensity <= 1 + 1e-9
    chances = np.frombuffer(drawn.item_propensities)
    assert (chances[4:] == 1).all()
    assert len(chances) == len(drawn.items)
    assert draw() == drawn


def test_what_is_well_known_and_good_comes_first_and_what_is_unknown_now_and_then():
    items, known = evidence([900, 5, 0], [1000, 1000, 0])
    firsts = Counter()
    for number in range(2_000):
        firsts[Explorer(RULE, f"r{number}", known).choose(items, 1)[0]] += 1
    assert firsts[items[1]] == 0
    assert 0.05 < firsts[items[2]] / 2_000 < 0.15  # a rate of any size is above .9 in a tenth
    assert firsts[items[0]] > 1_600


@pytest.mark.parametrize(
    ("successes", "trials", "like"),
    [
        ([3, 0], [9, 0], ([3, 0], [9, 0])),
        ([12, 0], [9, 0], ([12, 0], [12, 0])),  # more successes than trials: no failures
        ([-3.0, math.nan], [-9.0, math.nan], ([0, 0], [0, 0])),
        ([math.inf, 0], [math.inf, 0], ([1e12, 0], [1e12, 0])),
    ],
)
def test_counts_that_cannot_be_are_taken_for_what_can(successes, trials, like):
    items, known = evidence(successes, trials)
    _, plain = evidence(*like)
    assert known.beliefs(items).order([0.3, 0.6]) == plain.beliefs(items).order([0.3, 0.6])
    found, expected = (
        each.beliefs(items).place_probabilities([0, 1], 2) for each in (known, plain)
    )
    assert found == pytest.approx(expected)


def test_what_is_missing_counts_as_none():
    items, known = evidence([7, 7], [9, 9], present=[True, False])
    _, plain = evidence([7, 0], [9, 0])
    found, expected = (
        each.beliefs(items).place_probabilities([0, 1], 2) for each in (known, plain)
    )
    assert found.tolist() == expected.tolist()


# A capability.


@pytest.fixture
def shop(shop_of):
    shop = shop_of(PROJECT)
    shop.train((1,))
    return shop


def ask(shop, path, id, **query):
    headers = [(b"x-request-id", id.encode())]
    return shop.client.get(f"/api/{path}", {"user_id": 1, **query}, headers=headers)


def logged(shop):
    return {prediction.request_id: prediction for prediction in shop.predictions()}


def beliefs_of(successes, trials, prior=(1.0, 1.0)):
    successes, trials = np.array(successes, float), np.array(trials, float)
    return Beliefs(prior[0] + successes, prior[1] + trials - successes)


def test_a_capability_logs_what_it_drew_and_a_retry_draws_the_same(shop):
    """Item n was ordered 2n times and, as the sum of its places says, shown 20n² times."""
    ids = [f"r-{number}" for number in range(40)]
    replies = shop.run(*(ask(shop, "sampled", id, k=3) for id in ids + ids))
    results = [reply.json["result"] for reply in replies]
    assert results[:40] == results[40:]
    assert len({tuple(result) for result in results}) > 5
    assert {reply.json["degraded"] == [] for reply in replies} == {True}
    ranked = [5, 4, 3, 2]
    beliefs = beliefs_of([2 * n for n in ranked], [20 * n * n for n in ranked])
    for id, result in zip(ids, results, strict=False):
        found = logged(shop)[id]
        assert found.exploration == (
            "thompson(item_profile:heat, item_profile:seen, prior=(1.0, 1.0), top=4)"
        )
        assert found.answer == result
        shown = [ranked.index(item) for item in result]
        order = [*shown, *({0, 1, 2, 3} - set(shown))]
        assert found.list_propensity == pytest.approx(beliefs.list_probability(order, 3))
        assert np.frombuffer(found.item_propensities) == pytest.approx(
            beliefs.place_probabilities(order, 3)
        )


def test_behind_the_head_all_stands_as_ranked(shop):
    reply = shop.run(ask(shop, "sampled", "r-1"))
    assert reply.json["result"][4:] == [1]
    assert np.frombuffer(logged(shop)["r-1"].item_propensities)[4:].tolist() == [1.0]


def test_items_that_were_filtered_away_are_not_drawn_and_do_not_count(shop):
    reply = shop.run(ask(shop, "sampled", "r-1", k=3, odd="true"))
    shown = reply.json["result"]
    assert sorted(shown) == [1, 3, 5]
    beliefs = beliefs_of([2 * n for n in shown], [20 * n * n for n in shown])
    expected = beliefs.list_probability([0, 1, 2], 3)
    assert logged(shop)["r-1"].list_propensity == pytest.approx(expected, rel=1e-2)


def test_what_is_known_in_no_row_is_flagged_and_the_prior_counts(shop):
    reply = shop.run(ask(shop, "unknown", "r-1"))
    assert reply.json["degraded"] == ["missing:item_profile:never"]
    # Item 5 has 50 successes, and of no trials no failures.
    shown = reply.json["result"]
    beliefs = beliefs_of([50 * (n == 5) for n in shown], [50 * (n == 5) for n in shown])
    expected = beliefs.list_probability([0, 1, 2, 3, 4], 5)
    assert logged(shop)["r-1"].list_propensity == pytest.approx(expected, rel=1e-2)


def test_what_is_computed_may_count(shop):
    reply = shop.run(ask(shop, "computed", "r-1"))
    assert reply.json["degraded"] == []
    shown = reply.json["result"]
    beliefs = beliefs_of(shown, [100 * n for n in shown])
    expected = beliefs.list_probability([0, 1, 2, 3, 4], 5)
    assert logged(shop)["r-1"].list_propensity == pytest.approx(expected, rel=1e-2)


def test_without_personalisation_nothing_of_the_subject_counts(shop):
    """Of a customer's dealings with the items that are given nothing is read: all are alike."""
    given = {"item_id": [1, 2, 3], "personalised": "false"}
    known, nobody = shop.run(
        ask(shop, "habits", "r-1", item_id=[1, 2, 3]), ask(shop, "habits", "r-2", **given)
    )
    assert known.json["degraded"] == []
    assert nobody.json["degraded"] == ["not_personalised"]
    alike = beliefs_of([0, 0, 0], [0, 0, 0], (2, 18))
    found = logged(shop)["r-2"]
    assert found.list_propensity == pytest.approx(1 / 6)
    assert np.frombuffer(found.item_propensities) == pytest.approx(
        alike.place_probabilities([0, 1, 2], 3), abs=PLACE_ERROR
    )
    assert logged(shop)["r-1"].list_propensity != pytest.approx(1 / 6)


def test_the_fallback_is_ordered_by_sampling_too(shop_of):
    shop = shop_of(PROJECT)
    shop.run(*(ask(shop, "computed", f"r-{number}") for number in range(30)))
    found = logged(shop).values()
    assert len({tuple(each.answer) for each in found}) > 5
    assert {each.version for each in found} == {0}
    assert all(0 < each.list_propensity < 1 for each in found)


def test_the_rule_is_what_the_definitions_say():
    rule = PROJECT.capabilities["habits"].explore
    assert isinstance(rule, ThompsonSpec)
    assert (rule.prior, rule.top) == ((2.0, 18.0), 5)
    assert PROJECT.capabilities["habits"].reads == (rule.successes, rule.trials)
