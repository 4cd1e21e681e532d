"""What is drawn is drawn as often as its logged probability says."""

import asyncio
import dataclasses
import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.definitions.exploration import Epsilon
from feilun.serving.answering.capability import Capability
from feilun.serving.answering.exploring import Explorer
from feilun.serving.http.exchange import Request

REQUESTS = 40_000
SHARES = st.floats(0.01, 1.0)


def draw(rule, seed, ranked, k):
    explorer = Explorer(rule, seed)
    return explorer.of(explorer.choose(ranked, k))


def probabilities(drawn):
    return np.frombuffer(drawn.item_propensities, "<f8")


@given(SHARES, st.integers(2, 6), st.integers(0, 8), st.integers(0, 8), st.text(max_size=9))
def test_a_draw_is_some_of_the_items_behind_the_head_as_ranked(share, top, size, k, seed):
    ranked = [f"item {rank}" for rank in range(size)]
    drawn = draw(Epsilon(share, top), seed, ranked, k)
    assert len(drawn.items) == len(set(drawn.items)) == min(k, size)
    assert set(drawn.items) <= set(ranked)
    assert drawn.items[top:] == ranked[top:k]
    assert 0 < drawn.list_propensity <= 1 + 1e-12
    assert len(probabilities(drawn)) == len(drawn.items)
    assert draw(Epsilon(share, top), seed, ranked, k) == drawn


@given(SHARES, st.integers(2, 4), st.integers(1, 5), st.integers(0, 5))
def test_the_probabilities_of_all_lists_add_up_to_one(share, top, size, k):
    """Those that were drawn have a probability each; the others follow from the formula."""
    ranked, found = list(range(size)), {}
    for number in range(300):
        drawn = draw(Epsilon(share, top), f"s{number}", ranked, k)
        assert found.setdefault(tuple(drawn.items), drawn.list_propensity) == drawn.list_propensity
    head = min(top, size)
    lists = {(*order, *range(head, size))[:k] for order in itertools.permutations(range(head))}
    assert found.keys() <= lists
    other = share * math.factorial(head - min(k, head)) / math.factorial(head)
    best = tuple(ranked[:k])
    total = sum(found.get(each, other + (1 - share) * (each == best)) for each in lists)
    assert total == pytest.approx(1)


def test_lists_and_items_come_as_often_as_was_logged():
    """Monte Carlo over ids: within 4.5 standard errors, for each of 20 lists and 10 places."""
    rule, ranked = Epsilon(0.6, 5), list("abcdefg")
    lists, items, said, placed = Counter(), Counter(), {}, {}
    for number in range(REQUESTS):
        drawn = draw(rule, f"recommend/r-{number}", ranked, 2)
        lists[tuple(drawn.items)] += 1
        said[tuple(drawn.items)] = drawn.list_propensity
        for place, (item, chance) in enumerate(zip(drawn.items, probabilities(drawn), strict=True)):
            items[item, place] += 1
            placed[item, place] = chance
    assert len(lists) == 20
    assert sum(said.values()) == pytest.approx(1)
    assert sum(placed.values()) == pytest.approx(2)
    for counts, chances in ((lists, said), (items, placed)):
        for what, count in counts.items():
            chance = chances[what]
            error = math.sqrt(REQUESTS * chance * (1 - chance))
            assert abs(count - REQUESTS * chance) < 4.5 * error, (what, count, chance)


def test_the_inverse_propensity_estimate_of_another_policy_is_unbiased():
    """Log under exploration, estimate what a policy that was never served would have earned."""
    rule, ranked = Epsilon(0.5, 4), list("abcd")
    worth = {"a": 0.1, "b": 0.3, "c": 0.05, "d": 0.6}
    policy = ("d", "b")  # its true reward is worth[d] + worth[b] / 2
    random = np.random.default_rng(7)
    whole, by_item = [], []
    for number in range(REQUESTS):
        drawn = draw(rule, f"r-{number}", ranked, 2)
        clicks = [random.random() < worth[item] for item in drawn.items]
        rewards = [clicks[0], clicks[1] / 2]
        matches = tuple(drawn.items) == policy
        whole.append(sum(rewards) / drawn.list_propensity if matches else 0.0)
        by_item.append(
            sum(
                reward / chance
                for item, wanted, reward, chance in zip(
                    drawn.items, policy, rewards, probabilities(drawn), strict=True
                )
                if item == wanted
            )
        )
    truth = worth["d"] + worth["b"] / 2
    for estimates in (whole, by_item):
        error = np.std(estimates) / math.sqrt(REQUESTS)
        assert abs(np.mean(estimates) - truth) < 4 * error
        assert error < 0.05
    assert np.std(by_item) < np.std(whole)
    naive = worth["a"] + worth["b"] / 2  # what was mostly shown: the estimate is not that
    assert abs(np.mean(whole) - truth) < abs(naive - truth) / 5


def test_what_a_function_makes_by_itself_has_no_probability():
    explorer = Explorer(Epsilon(0.5, 4), "r")
    assert math.isnan(explorer.of(["a"]).list_propensity)
    drawn = explorer.choose(list("abcd"), 2)
    assert math.isnan(explorer.of(drawn[::-1]).list_propensity)
    assert explorer.of(drawn).list_propensity > 0
    explorer.choose(list("abcd"), 2)
    assert math.isnan(explorer.of(drawn).list_propensity)


def explore(shop, ids, function=None, **query):
    """Answer requests of a capability that explores; return the replies and what was logged."""
    route = shop.app.routes["/api/recommend"].methods["GET"].__self__
    changes = {"explore": Epsilon(0.5, 5)} | ({"function": function} if function else {})
    spec = dataclasses.replace(route.spec, **changes)
    capability = Capability(spec, shop.project, route._tools)
    query = "&".join(f"{name}={value}" for name, value in ({"user_id": 1} | query).items())
    requests = [Request("GET", spec.path, query.encode(), b"", id) for id in ids]

    async def session():
        await shop.app.start()
        import json

        replies = [json.loads((await capability.answer(each)).body) for each in requests]
        await shop.app.stop()
        return replies

    return asyncio.run(session()), {p.request_id: p for p in shop.predictions()}


def test_a_capability_logs_what_it_drew_and_a_retry_draws_the_same(shop):
    shop.train((0, 0, 1))
    ids = [f"r-{number}" for number in range(60)]
    replies, logged = explore(shop, ids + ids, k=2)
    results = [reply["result"] for reply in replies]
    assert results[:60] == results[60:]
    assert len({tuple(result) for result in results}) > 5
    for id, result in zip(ids, results, strict=False):
        found = logged[id]
        assert (found.exploration, found.answer) == ("epsilon(0.5, top=5)", result)
        best = 0.5 * (result == [5, 4])
        assert found.list_propensity == pytest.approx(0.5 / 20 + best)
        assert np.frombuffer(found.item_propensities).tolist() == pytest.approx(
            [0.1 + 0.5 * (item == wanted) for item, wanted in zip(result, [5, 4], strict=True)]
        )


def test_items_that_were_filtered_away_are_not_drawn_and_do_not_count(shop):
    """Of three that are left six pairs can be drawn, not twenty of five."""
    shop.train((0, 0, 1))

    def odd_ones(scored, user_id, k=2):
        return scored.where(np.array([item % 2 == 1 for item in scored.items])).top(k)

    replies, logged = explore(shop, [f"f-{n}" for n in range(40)], odd_ones, k=2)
    for reply in replies:
        assert set(reply["result"]) <= {1, 3, 5}
        best = 0.5 * (reply["result"] == [5, 3])
        assert logged[reply["request_id"]].list_propensity == pytest.approx(0.5 / 6 + best)


def test_a_function_that_orders_by_itself_is_logged_as_unknown(shop):
    shop.train((0, 0, 1))
    replies, logged = explore(shop, ["u-1"], lambda scored, user_id, k: sorted(scored.items)[:k])
    assert replies[0]["result"] == [1, 2, 3, 4, 5]
    assert math.isnan(logged["u-1"].list_propensity)
    assert logged["u-1"].item_propensities == b""


def test_without_exploration_nothing_is_drawn(shop):
    shop.train((0, 0, 1))
    shop.run(shop.client.get("/api/recommend", {"user_id": 1}))
    (found,) = shop.predictions()
    assert (found.exploration, found.list_propensity) == ("", 1.0)
