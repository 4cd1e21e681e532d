"""Models: which features they read, what judges them, and the function that trains them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from feilun.definitions.events import Event
from feilun.definitions.features import Feature
from feilun.definitions.rows import Dataset
from feilun.definitions.sites import Site, function_site
from feilun.definitions.views import FeatureView

ColumnSource = type[FeatureView] | Feature[int | float | str | bool | tuple[float, ...]]
"""What a model's columns are made of."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a prediction is judged by. Made by :func:`outcome`."""

    event: type[Event]
    within: str
    measure: Literal["happened", "count"]


def outcome(
    event: type[Event], *, within: str, measure: Literal["happened", "count"] = "happened"
) -> Outcome:
    """Judge a prediction by the events of the same keys that follow it.

    Parameters
    ----------
    event : event class
        It has a field for each key of the model.
    within : str
        How long to wait, from the moment of the prediction.
    measure : {"happened", "count"}
        0 or 1, or how many.
    """
    return Outcome(event, within, measure)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model. Made by :func:`model`; calling it trains, as the undecorated function does."""

    function: Callable[[Dataset], Any]
    features: Sequence[ColumnSource]
    label: Outcome
    metric: str
    owner: str
    description: str

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", "?")

    @property
    def site(self) -> Site:
        """Where the function begins."""
        return function_site(self.function)

    def __call__(self, data: Dataset) -> Any:
        """Train on ``data``."""
        return self.function(data)


def model(
    *,
    features: Sequence[ColumnSource],
    label: Outcome,
    metric: str,
    owner: str = "",
    description: str = "",
) -> Callable[[Callable[[Dataset], Any]], Model]:
    """Make a model of a function that trains: it takes a Dataset and returns an estimator.

    Parameters
    ----------
    features : sequence
        Features (a vector is a column for each of its numbers), arithmetic over them, and whole
        views, which contribute what is not a list.
    label : Outcome
        What a prediction is judged by.
    metric : str
        ``"auc"`` or ``"precision@10"`` (any number) for an outcome that happens or not; ``"wape"``
        or ``"rmse"`` for a count. The last two are errors: lower is better.
    owner, description : str
        For people; the description is by default the function's docstring.
    """

    def decorate(function: Callable[[Dataset], Any]) -> Model:
        return Model(function, features, label, metric, owner, description)

    return decorate
