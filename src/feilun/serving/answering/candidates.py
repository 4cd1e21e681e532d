"""Which items a request scores, and how they are scored where no model can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from feilun.aggregation.frames import Column
from feilun.definitions.specs import CapabilitySpec, EntitySpec, ExpressionSpec, FeatureSpec
from feilun.errors import TooLarge
from feilun.serving.http.parameters import check_keys
from feilun.serving.scoring.guarded_scorer import Scores

MAX_ITEMS = 10_000
"""The most items that one request may score."""


class Candidates:
    """The items of one capability's requests.

    They come from the request, if it gives them, and from the candidate features otherwise; where
    there are none, they are the classes that a text classifier tells apart.

    Parameters
    ----------
    spec : CapabilitySpec
        Says where they come from.
    item : EntitySpec
        What identifies an item.
    """

    def __init__(self, spec: CapabilitySpec, item: EntitySpec) -> None:
        self._item = item
        self._sources = spec.candidates
        self._given = _items_parameter(spec, item)
        fallback = spec.fallback
        ranks = isinstance(fallback, FeatureSpec) and fallback.is_list
        self._ranked = fallback if isinstance(fallback, FeatureSpec) and ranks else None
        self._valued = None if ranks else fallback
        self.lists = each_once(spec.candidates, (self._ranked,) if self._ranked else ())
        """The list features to read before the items are known."""
        self.values: tuple[FeatureSpec | ExpressionSpec, ...] = (
            (self._valued,) if self._valued else ()
        )
        """What to read for each item, so that it can be scored without a model."""

    def items(
        self,
        parameters: Mapping[str, Any],
        lists: Mapping[str, Column],
        classes: Sequence[str] = (),
        *,
        model: bool,
    ) -> list[Any]:
        """Return the items to score, each once, in the order in which they were found.

        Without a model, or without a single candidate, what the fallback ranks is added.

        Raises
        ------
        InputError
            If the request gives something that is no item.
        TooLarge
            If there are more than ``MAX_ITEMS``.
        """
        given = parameters[self._given] if self._given else None
        if given is not None:
            items = list(dict.fromkeys(given)) if isinstance(given, list | tuple) else [given]
            check_keys(self._item, items)
        else:
            items = _merge(lists, self._sources) if self._sources else list(classes)
            if self._ranked is not None and (not model or not items):
                items = _merge(lists, (*self._sources, self._ranked))
        if len(items) > MAX_ITEMS:
            raise TooLarge(f"{len(items)} items in one request.", f"Send at most {MAX_ITEMS}.")
        return items

    def fallback_scores(self, items: Sequence[Any], columns: Mapping[str, Column]) -> Scores:
        """Score by place in the fallback's list, or by its value; 0 for what it does not know."""
        scores = np.zeros(len(items), np.float64)
        if self._ranked is not None:
            ranked = _values(columns[self._ranked.address])
            places = {item: len(ranked) - place for place, item in enumerate(ranked)}
            scores[:] = [places.get(item, 0) for item in items]
        elif self._valued is not None:
            column = columns[self._valued.address]
            default = self._valued.default or 0
            scores[:] = np.where(column.present, column.values, default).astype(np.float64)
        return scores


def answered_items(result: Any, item: str, items: Sequence[Any]) -> list[Any]:
    """Return the items of a reply, best first.

    A list of some of the scored items, or of objects that name one each, is taken as chosen and
    ordered; anything else (a forecast for each item) answers all of them.

    Examples
    --------
    >>> answered_items([3, 1], "item_id", [1, 2, 3])
    [3, 1]
    >>> answered_items([{"item_id": 2}], "item_id", [1, 2, 3])
    [2]
    >>> answered_items([0.5, 0.1, 3.0], "item_id", [1, 2, 3])
    [1, 2, 3]
    """
    if not isinstance(result, list | tuple):
        return list(items)
    chosen = [part.get(item) if isinstance(part, dict) else part for part in result]
    chosen = [value.item() if isinstance(value, np.generic) else value for value in chosen]
    try:
        found = dict(zip(items, items, strict=True))
        # 1, 1.0 and True are equal in Python, but only one of them is the item 1.
        known = all(value in found and type(found[value]) is type(value) for value in chosen)
        once = len(set(chosen)) == len(chosen)
    except TypeError:  # a list of lists: not of items
        return list(items)
    return chosen if known and once else list(items)


def each_once(*groups: Iterable[FeatureSpec]) -> tuple[FeatureSpec, ...]:
    """Return the features of all groups, each once, in order."""
    return tuple({feature.address: feature for group in groups for feature in group}.values())


def _items_parameter(spec: CapabilitySpec, item: EntitySpec) -> str | None:
    """Return the parameter that gives the items, if the request does."""
    for parameter in spec.parameters:
        if parameter.name == item.name:
            return parameter.name
    wanted = list[int] if item.dtype == "int" else list[str]
    if not spec.candidates:
        for parameter in spec.parameters:
            if parameter.annotation == wanted:
                return parameter.name
    return None


def _merge(lists: Mapping[str, Column], sources: Iterable[FeatureSpec]) -> list[Any]:
    merged: dict[Any, None] = {}
    for source in sources:
        merged.update(dict.fromkeys(_values(lists[source.address])))
    return list(merged)


def _values(column: Column) -> list[Any]:
    """Return the list that a list feature holds, as plain Python values."""
    return list(np.asarray(column.values[0]).tolist()) if column.present[0] else []
