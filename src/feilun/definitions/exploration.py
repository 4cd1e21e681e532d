"""Exploration: now and then another order, so that there is something to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # features are made of specs, and these of what is here
    from feilun.definitions.features import Feature


@dataclass(frozen=True, slots=True)
class Epsilon:
    """One request in so many gets the best items in a random order. Made by :func:`epsilon`."""

    epsilon: float
    top: int

    def __str__(self) -> str:
        return f"epsilon({self.epsilon}, top={self.top})"


def epsilon(share: float, *, top: int) -> Epsilon:
    """Shuffle the ``top`` best items of ``scored.top(k)`` in this share of the requests.

    Parameters
    ----------
    share : float
        Above 0, at most 1.
    top : int
        At least 2; where it is above ``k``, items that would not have been shown are.

    Examples
    --------
    >>> str(epsilon(0.1, top=20))
    'epsilon(0.1, top=20)'
    """
    return Epsilon(share, top)


@dataclass(frozen=True, slots=True, eq=False)
class Thompson:
    """The best items in the order of success rates that are drawn. Made by :func:`thompson`."""

    successes: Feature[int] | Feature[float]
    trials: Feature[int] | Feature[float]
    top: int
    prior: tuple[float, float]


def thompson(
    *,
    successes: Feature[int] | Feature[float],
    trials: Feature[int] | Feature[float],
    top: int,
    prior: tuple[float, float] = (1.0, 1.0),
) -> Thompson:
    """Order the ``top`` best items of ``scored.top(k)`` by Thompson sampling, in every request.

    The model chooses these items. Among them, each item's rate of success is believed to be
    Beta(prior[0] + successes, prior[1] + trials - successes) distributed; one rate is drawn from
    each belief, and the highest comes first. So what is good comes often, and what is little known
    now and then, until it is known.

    Parameters
    ----------
    successes, trials : Feature
        Of each item: how often showing it led to what is hoped for, and how often it was shown.
        Counts of one window, or decayed ones; what is missing counts as none.
    top : int
        2 to 50; where it is above ``k``, items that would not have been shown are.
    prior : (float, float)
        Successes and failures that are believed of an item of which nothing is known; each 0.1 to
        a million. (1, 1) is all rates alike; (2, 98) expects 2 % and is soon convinced of
        something else.
    """
    return Thompson(successes, trials, top, prior)
