"""Thompson sampling over a few items: draws an order, and knows how probable it was.

The rate of each item is believed to be Beta(a, b) distributed, independently of the others. One
rate is drawn for each, and the highest comes first. All beliefs are put on one grid of cells, in
each of which a rate is as likely anywhere: that is what is drawn from, close to the Betas
(`BETA_ERROR`), and what the probabilities are of. So they need no simulation: in a cell everything
is a polynomial of where in the cell a rate lies, and what lies below or above is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feilun.aggregation.frames import Float64

_CELLS = 120
"""Of the grid, or a few more; at least `_CELLS_AN_ITEM` for each item."""
_CELLS_AN_ITEM = 5
BETA_ERROR = 0.02
"""No item comes first with a probability further than this from what exact Betas would give it."""
PLACE_ERROR = 2e-5
"""How far the computed probability of an item at its place may be off; of a list it is exact."""
_POINTS = 32
"""Points on each side of the mode at which a Beta's density is computed."""
_DEPTH = 20.0
"""Where the density is below exp of minus this of its mode's, it is taken for zero."""
_GAUSS = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3)
"""Where in a cell polynomials are looked at, so that up to the third degree nothing is lost."""


class Beliefs:
    """What is believed of the rates of some items.

    Parameters
    ----------
    a, b : float64 arrays
        The parameters of each item's Beta distribution; at least 0.05.
    """

    def __init__(self, a: Float64, b: Float64) -> None:
        self._below, self._mass = _grid(a, b)

    def order(self, uniform: Sequence[float]) -> list[int]:
        """Draw an order, the highest rate first, from one uniform number in [0, 1) an item."""
        drawn = np.array(uniform)
        cells = (self._below <= drawn[:, None]).sum(axis=1) - 1
        each = np.arange(len(drawn))
        inside = (drawn - self._below[each, cells]) / self._mass[each, cells]
        order: list[int] = np.argsort(-(cells + inside), kind="stable").tolist()
        return order

    def list_probability(self, order: Sequence[int], places: int) -> float:
        """Return how probable it is that the first ``places`` of ``order`` come first, so ordered.

        From the last place to the first: given its own rate, the probability that the rates behind
        are so ordered below it; integrated, that of the next.
        """
        below, mass = self._below[:, :-1], self._mass
        ordered = np.zeros((len(order) + 1, mass.shape[1]))  # coefficients by degree, cells
        ordered[0], degree = 1.0, 0
        for item in order[places:]:
            ordered[1 : degree + 2] = (
                ordered[1 : degree + 2] * below[item] + ordered[: degree + 1] * mass[item]
            )
            ordered[0] *= below[item]
            degree += 1
        whole = 1.0
        for item in reversed(order[:places]):
            degree += 1
            ordered[1 : degree + 1] = (
                ordered[:degree] * mass[item] / np.arange(1.0, degree + 1)[:, None]
            )
            up_to = np.cumsum(ordered[1 : degree + 1].sum(axis=0))
            ordered[0, 0], ordered[0, 1:] = 0.0, up_to[:-1]
            whole = float(up_to[-1])
        return whole

    def place_probabilities(self, order: Sequence[int], places: int) -> Float64:
        """Return how probable it is that each of the first of ``order`` comes where it does.

        An item is at a place if so many of the others are above it. How many are is counted as
        heads of unlike coins are: one after the other, here from both ends, so that each of the
        shown can be left out.
        """
        shown = order[:places]
        points = self._below[:, :-1, None] + self._mass[:, :, None] * _GAUSS
        points = points.reshape(len(self._mass), -1)
        weights = np.repeat(self._mass / len(_GAUSS), len(_GAUSS), axis=1)
        nobody = np.ones((1, points.shape[1]))
        before, afters = nobody, [nobody]
        for item in order[places:]:
            before = _with(before, points[item], places)
        for item in reversed(shown[1:]):
            afters.append(_with(afters[-1], points[item], places))
        found = np.empty(len(shown))
        for place, item in enumerate(shown):
            after = afters.pop()
            first = max(0, place + 1 - len(after))  # of the counts before: the others are after
            last = min(place + 1, len(before))
            rest = after[place - last + 1 : place - first + 1][::-1]
            found[place] = np.einsum("cx,cx->x", before[first:last], rest) @ weights[item]
            before = _with(before, points[item], places)
        return found


def _with(counts: Float64, below: Float64, most: int) -> Float64:
    """Return the probabilities of so many above, fewer than ``most``, with one item more.

    By count and point; ``below`` is the probability that the item is below the point.
    """
    more = np.empty((min(len(counts) + 1, most), len(below)))
    np.multiply(counts, below, out=more[: len(counts)])
    above = counts[: len(more) - 1] * (1 - below)
    more[1 : len(counts)] += above[: len(counts) - 1]
    if len(more) > len(counts):
        more[-1] = above[-1]
    return more


def _grid(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return the probabilities of a rate below each edge, and in each cell: items by edges, cells.

    Edges are quantiles of all the beliefs, of each in its turn.
    """
    items = len(a)
    rates, below = _distributions(a, b)
    each = max(_CELLS_AN_ITEM, _CELLS // items)
    turns = (np.arange(each) + (np.arange(items)[:, None] + 0.5) / items) / each
    levels = np.sin(turns * (np.pi / 2)) ** 2  # denser in the tails
    edges = np.concatenate([np.interp(levels[i], below[i], rates[i]) for i in range(items)])
    edges.sort()
    at = np.zeros((items, len(edges) + 2))
    for i in range(items):
        at[i, 1:-1] = np.interp(edges, rates[i], below[i])
    at[:, -1] = 1.0
    return at, np.diff(at, axis=1)


def _distributions(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return points, in log odds, and how probable a rate below each is: items by points.

    In log odds the density has one mode, at log(a/b), and falls at least as a normal one and then
    an exponential one: so far as that, it is computed.
    """
    curvature = np.sqrt(a * b / (a + b))
    reach = np.sqrt(2 * _DEPTH) / curvature
    steps = np.arange(_POINTS + 1) / _POINTS
    near, far = np.outer(reach, steps), steps**3
    left, right = near + np.outer(_DEPTH / a, far), near + np.outer(_DEPTH / b, far)
    off = np.concatenate([-left[:, :0:-1], right], axis=1)
    fall = np.log1p((a / (a + b))[:, None] * np.expm1(off))
    density = np.exp(a[:, None] * off - (a + b)[:, None] * fall)
    below = np.zeros_like(off)
    np.cumsum((density[:, 1:] + density[:, :-1]) * np.diff(off, axis=1), axis=1, out=below[:, 1:])
    return np.log(a / b)[:, None] + off, below / below[:, -1:]
