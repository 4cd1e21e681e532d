"""Draws lists for a capability that explores, and knows with what probability it drew them.

What is drawn follows from the request's id alone, so that a retry gets the same list. The
probabilities are over ids, given the ranking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from feilun.definitions.exploration import Epsilon
from feilun.records.split import place_of


class Drawn(NamedTuple):
    """A list that was drawn: the probability of it, and of each of its items at its place."""

    items: list[Any]
    list_propensity: float
    item_propensities: bytes


class Explorer:
    """Draws the lists of one request.

    Parameters
    ----------
    rule : Epsilon
        How.
    seed : str
        Names the request; ids that differ draw independently.
    """

    def __init__(self, rule: Epsilon, seed: str) -> None:
        self._rule = rule
        self._seed = seed
        self._drawn: list[Drawn] = []

    def choose(self, ranked: Sequence[Any], k: int) -> list[Any]:
        """Return ``k`` of the ranked items: the first ones, or the head of them shuffled."""
        share, head = self._rule.epsilon, max(1, min(self._rule.top, len(ranked)))
        salt = f"{self._seed}/{len(self._drawn)}"
        order = list(range(len(ranked)))
        if place_of(salt, "explore") < share:
            order[:head] = sorted(order[:head], key=lambda rank: place_of(salt, f"rank {rank}"))
        shown = order[:k]
        places = min(len(shown), head)  # behind the head everything is as ranked
        uniform = math.factorial(head - places) / math.factorial(head)
        as_ranked = shown == list(range(len(shown)))
        items = np.ones(len(shown))
        items[:places] = share / head + (1 - share) * (np.array(shown[:places]) == range(places))
        drawn = Drawn(
            [ranked[rank] for rank in shown],
            share * uniform + (1 - share) * as_ranked,
            items.astype("<f8").tobytes(),
        )
        self._drawn.append(drawn)
        return list(drawn.items)

    def of(self, answer: Sequence[Any]) -> Drawn:
        """Return what was drawn if ``answer`` is the one list that was; else no probability.

        What a function makes of several draws, or of none, has a probability that nobody knows.
        """
        if len(self._drawn) == 1 and self._drawn[0].items == list(answer):
            return self._drawn[0]
        return Drawn(list(answer), math.nan, b"")
