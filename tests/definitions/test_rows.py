"""What functions of the user's are given."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feilun as fl
from feilun.aggregation.frames import Column
from feilun.errors import InputError, NoModel, Unavailable, UnknownName


class Order(fl.Event):
    user_id: fl.Field[int]
    item_id: fl.Field[int]


class Item(fl.FeatureView, entity=fl.Entity("item_id", int)):
    stock = fl.count(Order)
    sold = fl.count(Order, window="1d")


class Trends(fl.FeatureView):
    orders = fl.count(Order)


def column(*values: int, present: bool = True) -> Column:
    return Column(np.array(values), np.full(len(values), present))


def scored_with(scores: list[float]) -> fl.Scored:
    return fl.Scored(
        items=[f"item {place}" for place in range(len(scores))],
        scores=np.array(scores, np.float64),
        columns={
            "item:stock": column(*range(len(scores))),
            "trends:orders": column(9, present=False),
        },
    )


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0])), st.integers(0, 8))
def test_top_is_a_stable_sort(scores, k):
    best = sorted(range(len(scores)), key=lambda place: -scores[place])[:k]
    assert scored_with(scores).top(k) == [f"item {place}" for place in best]


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0]), st.booleans())))
def test_where_keeps_what_the_mask_says(rows):
    scored = scored_with([score for score, _ in rows])
    kept = scored.where(np.array([keep for _, keep in rows], np.bool_))
    places = [place for place, (_, keep) in enumerate(rows) if keep]
    assert list(kept.items) == [f"item {place}" for place in places]
    assert kept.scores.tolist() == [rows[place][0] for place in places]
    assert kept[Item.stock].tolist() == places
    assert kept[Trends.orders].tolist() == [9] * len(places)
    assert not kept.present(Trends.orders).any()
    assert len(kept) == len(places)
    assert len(scored) == len(rows)


def test_features_of_the_item_and_of_the_request():
    scored = scored_with([0.1, 0.9, 0.5])
    assert scored[Item.stock].tolist() == [0, 1, 2]
    assert scored[Trends.orders].tolist() == [9, 9, 9]
    assert scored.present(Item.stock).tolist() == [True, True, True]
    assert scored.where(scored[Item.stock] > 0).top(10) == ["item 1", "item 2"]
    assert scored.where(scored[Trends.orders] > 9).top(10) == []
    assert not scored.fallback


def test_what_was_not_read_is_refused():
    with pytest.raises(UnknownName, match=r"Item.sold was not read .* reads="):
        scored_with([1.0])[Item.sold]


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="k=-1"):
        scored_with([1.0]).top(-1)
    with pytest.raises(InputError, match="mask of 2 for 1"):
        scored_with([1.0]).where(np.array([True, False]))


def test_a_dataset_knows_its_length():
    data = fl.Dataset(
        features=("item:stock",),
        x=np.zeros((2, 1), np.float32),
        y=np.zeros(2),
        groups=np.array([2]),
        as_of=np.array([0]),
    )
    assert len(data) == 2
    assert data.categorical == ()


label = fl.outcome(Order, within="1d")
second, third = (
    fl.adopted(name, features=[Item], label=label, metric="auc") for name in ("second", "third")
)


@fl.capability("/api/stock", model=second)
def stock(scored: fl.Scored, item_id: list[int]) -> list[int]:
    return []


def composed() -> fl.Scored:
    return replace(
        scored_with([1, 2, 3]),
        others={"second": np.array([3.0, 1.0, 2.0]), "third": NoModel("There is none.")},
        replies={"/api/stock": [7, 8, 9]},
    )


def test_what_another_model_gave_follows_the_candidates():
    scored = composed()
    assert scored.by(second).tolist() == [3, 1, 2]
    kept = scored.where(scored.by(second) > 1)
    assert (kept.by(second).tolist(), list(kept.items)) == ([3, 2], ["item 0", "item 2"])
    assert kept.rescored(kept.by(second)).top(2) == ["item 0", "item 2"]
    assert kept.reply(stock) == [7, 8, 9]


def test_a_model_that_did_not_score_needs_a_default():
    scored = composed()
    assert scored.by(third, default=0.5).tolist() == [0.5] * 3
    assert scored.where(scored.scores > 1).by(third, default=0).tolist() == [0, 0]
    with pytest.raises(NoModel, match="There is none"):
        scored.by(third)


def test_a_capability_that_did_not_answer_needs_a_default():
    scored = replace(composed(), replies={"/api/stock": InputError("No.")})
    assert scored.reply(stock, default=None) is None
    with pytest.raises(Unavailable, match="/api/stock, which was asked, did not answer: No"):
        scored.reply(stock)


def test_what_was_not_named_is_unknown():
    scored = scored_with([1])
    with pytest.raises(UnknownName, match="also="):
        scored.by(second, default=1)
    with pytest.raises(UnknownName, match="asks="):
        scored.reply(stock, default=[])


def test_there_are_as_many_scores_as_candidates():
    with pytest.raises(InputError, match="2 scores for 3"):
        composed().rescored(np.array([1.0, 2.0]))
