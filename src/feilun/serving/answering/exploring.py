"""Draws lists for a capability that explores, and knows with what probability it drew them.

What is drawn follows from the request's id alone, and with Thompson sampling from what was known of
the items, so that a retry gets the same list. The probabilities are over ids, given the ranking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from feilun.aggregation.frames import Column, Float64
from feilun.definitions.exploration import Epsilon
from feilun.definitions.specs import ExpressionSpec, Readable, ThompsonSpec
from feilun.features.expressions import numbers
from feilun.records.split import place_of
from feilun.serving.answering.thompson import Beliefs

_MOST = 1e12
"""What is counted beyond that is taken for that."""


class Drawn(NamedTuple):
    """A list that was drawn: the probability of it, and of each of its items at its place."""

    items: list[Any]
    list_propensity: float
    item_propensities: bytes


class Evidence:
    """What Thompson sampling knows of the items of one request.

    Parameters
    ----------
    rule : ThompsonSpec
        Names what it goes by.
    items : sequence
        The items, each once.
    columns : mapping
        Address to column, one value an item. What is missing counts as none.
    """

    def __init__(
        self, rule: ThompsonSpec, items: Sequence[Any], columns: Mapping[str, Column]
    ) -> None:
        self._prior = rule.prior
        self._at = {item: at for at, item in enumerate(items)}
        self._successes, self._trials = (
            _counts(each, columns[each.address]) for each in (rule.successes, rule.trials)
        )

    def beliefs(self, items: Sequence[Any]) -> Beliefs:
        """Return what is believed of some of the items.

        Successes that are more than the trials are believed, with no failures.
        """
        at = [self._at[item] for item in items]
        successes, trials = self._successes[at], self._trials[at]
        failures = np.maximum(trials - successes, 0.0)
        return Beliefs(self._prior[0] + successes, self._prior[1] + failures)


class Explorer:
    """Draws the lists of one request.

    Parameters
    ----------
    rule : Epsilon or ThompsonSpec
        How.
    seed : str
        Names the request; ids that differ draw independently.
    evidence : Evidence, optional
        What is known of the items, for Thompson sampling.
    """

    def __init__(
        self, rule: Epsilon | ThompsonSpec, seed: str, evidence: Evidence | None = None
    ) -> None:
        self._rule = rule
        self._seed = seed
        self._evidence = evidence
        self._drawn: list[Drawn] = []

    def choose(self, ranked: Sequence[Any], k: int) -> list[Any]:
        """Return ``k`` of the ranked items: the head of them as it was drawn, then the rest."""
        head = min(self._rule.top, len(ranked))
        places = min(k, head)  # behind the head everything is as ranked
        salt = f"{self._seed}/{len(self._drawn)}"
        if isinstance(self._rule, Epsilon):
            order, chance, chances = _shuffled(self._rule.epsilon, salt, head, places)
        else:
            assert self._evidence is not None
            order, chance, chances = _sampled(self._evidence, salt, ranked[:head], places)
        shown = [*order, *range(head, len(ranked))][:k]
        items = np.ones(len(shown))
        items[:places] = chances
        drawn = Drawn([ranked[rank] for rank in shown], chance, items.astype("<f8").tobytes())
        self._drawn.append(drawn)
        return list(drawn.items)

    def of(self, answer: Sequence[Any]) -> Drawn:
        """Return what was drawn if ``answer`` is the one list that was; else no probability.

        What a function makes of several draws, or of none, has a probability that nobody knows.
        """
        if len(self._drawn) == 1 and self._drawn[0].items == list(answer):
            return self._drawn[0]
        return Drawn(list(answer), math.nan, b"")


def _shuffled(share: float, salt: str, head: int, places: int) -> tuple[list[int], float, Float64]:
    """Return an order of the head, and the probabilities of what it shows."""
    order = list(range(head))
    if place_of(salt, "explore") < share:
        order.sort(key=lambda rank: place_of(salt, f"rank {rank}"))
    uniform = math.factorial(head - places) / math.factorial(head)
    as_ranked = np.array(order[:places]) == range(places)
    chances = share / max(head, 1) + (1 - share) * as_ranked
    return order, share * uniform + (1 - share) * bool(as_ranked.all()), chances


def _sampled(
    evidence: Evidence, salt: str, items: Sequence[Any], places: int
) -> tuple[list[int], float, Float64]:
    """Return an order of the items, and the probabilities of what it shows.

    An item keeps its uniform number whatever is ranked beside it.
    """
    if not places:
        return list(range(len(items))), 1.0, np.empty(0)
    beliefs = evidence.beliefs(items)
    order = beliefs.order([place_of(salt, f"item {item}") for item in items])
    chance = beliefs.list_probability(order, places)
    return order, chance, beliefs.place_probabilities(order, places)


def _counts(each: Readable, column: Column) -> Float64:
    """Return counts of 0 and more; what is missing is 0."""
    values = column.values if isinstance(each, ExpressionSpec) else numbers(each, column)
    counts: Float64 = np.clip(np.nan_to_num(values), 0.0, _MOST)
    return counts
