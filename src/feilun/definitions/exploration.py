"""Exploration: now and then another order, so that there is something to learn from."""

from __future__ import annotations

from dataclasses import dataclass


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
