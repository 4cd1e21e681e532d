"""Models: which features they read, what judges them, and who trains them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from feilun.definitions.events import Event
from feilun.definitions.features import Feature
from feilun.definitions.rows import Dataset
from feilun.definitions.sites import Site, calling_site, function_site
from feilun.definitions.views import Entity, FeatureView

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
    """A model. Made by :func:`model` and :func:`adopted`.

    Calling it trains, as the undecorated function does; ``function`` is None where nobody trains.
    """

    name: str
    site: Site
    function: Callable[[Dataset], Any] | None
    features: Sequence[ColumnSource]
    label: Outcome
    metric: str
    owner: str
    description: str
    classes: Entity | None = None

    def __call__(self, data: Dataset) -> Any:
        """Train on ``data``; TypeError if it is adopted."""
        if self.function is None:
            raise TypeError(f"{self.name} is adopted: nothing here trains it.")
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
        Features (a vector is a column for each of its numbers), arithmetic over them, vectors of
        texts (see :func:`feilun.encoder`), and whole
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
        name = getattr(function, "__name__", "?")
        site = function_site(function)
        return Model(name, site, function, features, label, metric, owner, description)

    return decorate


def adopted(
    name: str,
    *,
    features: Sequence[ColumnSource],
    label: Outcome,
    metric: str,
    classes: Entity | None = None,
    owner: str = "",
    description: str = "",
) -> Model:
    """Make a model that somebody else trains; ``feilun adopt`` puts its file in production.

    Parameters
    ----------
    name : str
        What it is called.
    features : sequence
        As of :func:`model`, in the order in which the file takes its columns.
    label : Outcome
        What a prediction is judged by.
    metric : str
        As of :func:`model`.
    classes : Entity, optional
        What a text classifier tells apart: its rows are the classes, each with its probability.
        ``features`` is the one text then.
    owner, description : str
        For people.
    """
    return Model(name, calling_site(), None, features, label, metric, owner, description, classes)
