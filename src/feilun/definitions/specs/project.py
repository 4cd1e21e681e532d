"""Views, models, capabilities and flywheels, and the project that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from feilun.definitions.exploration import Epsilon
from feilun.definitions.specs.events import EntitySpec, EventSpec, digest
from feilun.definitions.specs.features import (
    Computed,
    EncodingSpec,
    ExpressionSpec,
    FeatureSpec,
    FoldSpec,
    Readable,
    RequestSpec,
    encodings_of,
    features_of,
    inputs_of,
    longest,
)


@dataclass(frozen=True)
class ViewSpec:
    """Features of one entity (or of several together, or of none).

    ``features`` aggregate events; ``expressions`` are computed from them.
    """

    name: str
    entities: tuple[EntitySpec, ...]
    features: tuple[FeatureSpec, ...]
    owner: str = ""
    description: str = ""
    expressions: tuple[ExpressionSpec, ...] = ()

    @property
    def readable(self) -> tuple[FeatureSpec | ExpressionSpec, ...]:
        """Everything that it has a value of."""
        return (*self.features, *self.expressions)


@dataclass(frozen=True)
class OutcomeSpec:
    """What a prediction is judged by: events of ``event`` in ``[as_of, as_of + within)``.

    ``measure``: ``happened`` gives 0 or 1, ``count`` how many.
    """

    event: str
    within: int
    measure: Literal["happened", "count"]


@dataclass(frozen=True)
class ModelSpec:
    """A model: the columns it reads, what it is judged by, and the function that trains it.

    ``train`` is None where somebody else trains it: its versions are adopted.

    ``columns`` are what it is trained on and scores, in order; ``features`` are what is read to
    compute them. ``classes`` is the key whose values it tells apart, where its rows are those.
    """

    name: str
    columns: tuple[Readable, ...]
    label: OutcomeSpec
    metric: str
    train: Callable[..., Any] | None = dataclasses.field(compare=False)
    code_digest: str
    owner: str = ""
    description: str = ""
    classes: EntitySpec | None = None

    @cached_property
    def features(self) -> tuple[FeatureSpec, ...]:
        """Every feature that its columns need, each once, in order of appearance."""
        return features_of(self.columns)

    @cached_property
    def request(self) -> tuple[RequestSpec, ...]:
        """What its columns need of the request, each once, in order of appearance."""
        return tuple(part for part in inputs_of(self.columns) if isinstance(part, RequestSpec))

    @cached_property
    def keys(self) -> tuple[EntitySpec, ...]:
        """Every entity that its rows are about, each once, in order of appearance."""
        named = [key for feature in self.features for key in feature.keys]
        return tuple(dict.fromkeys([*named, *([self.classes] if self.classes else [])]))

    @property
    def text(self) -> FeatureSpec | RequestSpec | None:
        """The one text that it reads, where it may be a text classifier."""
        column = self.columns[0]
        alone = self.train is None and len(self.columns) == 1 and column.dtype == "str"
        return column if alone and isinstance(column, FeatureSpec | RequestSpec) else None

    @cached_property
    def width(self) -> int:
        """How many columns its matrix has."""
        return sum(column.width for column in self.columns)

    @cached_property
    def columns_digest(self) -> str:
        """Names the meaning of its columns: vectors with the same digest can be mixed."""
        features = tuple(
            (f.address, f.fold.fingerprint, f.window, f.calendar, f.default, f.ttl, f.quantile)
            for f in self.features
        )
        columns = tuple(
            (column.address, column.formula if isinstance(column, Computed) else "")
            for column in self.columns
        )
        return digest(columns, features, self.request)

    @cached_property
    def definition_digest(self) -> str:
        """Changes when the columns, the label, the metric or the classes change."""
        classes = (self.classes,) if self.classes else ()
        return digest(self.name, self.columns_digest, self.label, self.metric, *classes)


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter of a capability's request."""

    name: str
    annotation: Any
    required: bool
    default: Any


@dataclass(frozen=True)
class AskSpec:
    """A capability that another one asks. Its parameter ``rows`` is the other's candidates.

    ``rows`` is None where it does not score them. ``same`` are its parameters that have the value
    of the other's of that name; the rest have their defaults. ``personal`` says whether it reads by
    whom the other's request is about.
    """

    capability: str
    rows: str | None
    same: tuple[str, ...]
    personal: bool


@dataclass(frozen=True)
class ThompsonSpec:
    """Thompson sampling over the ``top`` items, by what is known of each.

    An item's rate is believed to be Beta(prior[0] + successes, prior[1] + trials - successes).
    """

    successes: Readable
    trials: Readable
    top: int
    prior: tuple[float, float]

    def __str__(self) -> str:
        rate = f"{self.successes.address}, {self.trials.address}"
        return f"thompson({rate}, prior={self.prior}, top={self.top})"


@dataclass(frozen=True)
class CapabilitySpec:
    """An API: request → candidates → features → scores → the function's reply.

    ``item`` is the key that differs between the rows to score: filled from ``candidates``, or
    from a request parameter that is a list. ``reads`` is what the function looks at though the
    model does not, or its exploration. ``explore`` says how its lists are drawn, where it explores;
    ``opt_out``, where it is true, that nothing else of the request's subject may be read.
    The models ``also`` score the same rows; what it ``asks`` answers before the function is called.
    """

    name: str
    path: str
    model: str
    item: str
    candidates: tuple[FeatureSpec, ...]
    fallback: FeatureSpec | ExpressionSpec | None
    reads: tuple[Readable, ...]
    parameters: tuple[ParameterSpec, ...]
    returns: Any
    function: Callable[..., Any] = dataclasses.field(compare=False)
    owner: str = ""
    description: str = ""
    explore: Epsilon | ThompsonSpec | None = None
    opt_out: FeatureSpec | None = None
    also: tuple[str, ...] = ()
    asks: tuple[AskSpec, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that scores its rows, the one that ranks them first."""
        return (self.model, *self.also)


@dataclass(frozen=True)
class TriggerSpec:
    """When a turn is due: ``count`` new events of ``event``, or joined outcomes if it is None."""

    count: int
    event: str | None


@dataclass(frozen=True)
class GateSpec:
    """When a challenger may replace the champion.

    The lower end of the ``confidence`` interval of (challenger − champion), in units of the
    model's metric, must be above ``-margin``.
    """

    confidence: float
    margin: float


@dataclass(frozen=True)
class FlywheelSpec:
    """The loop of one model."""

    model: str
    triggers: tuple[TriggerSpec, ...]
    gate: GateSpec


@dataclass(frozen=True)
class Project:
    """Everything that one module of definitions says, validated."""

    name: str
    timezone: str
    entities: Mapping[str, EntitySpec]
    events: Mapping[str, EventSpec]
    views: Mapping[str, ViewSpec]
    models: Mapping[str, ModelSpec]
    capabilities: Mapping[str, CapabilitySpec]
    flywheels: Mapping[str, FlywheelSpec]

    @cached_property
    def tables(self) -> Mapping[str, EventSpec]:
        """The events that are rows of tables, by name."""
        return {name: event for name, event in self.events.items() if event.table is not None}

    @cached_property
    def sent_events(self) -> Mapping[str, EventSpec]:
        """The events that clients send, by name: all but the rows of tables."""
        return {name: event for name, event in self.events.items() if event.table is None}

    @cached_property
    def encoders(self) -> Mapping[str, EncodingSpec]:
        """A use of each version of an encoder that the project uses, by digest."""
        wanted: list[Readable] = [c for model in self.models.values() for c in model.columns]
        for capability in self.capabilities.values():
            wanted += [*capability.reads, *([capability.fallback] if capability.fallback else [])]
        return {each.digest: each for each in encodings_of(wanted)}

    @cached_property
    def folds(self) -> tuple[FoldSpec, ...]:
        """Every fold that some feature reads, each once, kept as long as its longest window."""
        views = self.views.values()
        return longest(feature.fold for view in views for feature in view.features)

    def feature(self, address: str) -> FeatureSpec | ExpressionSpec:
        """Return the feature at ``view:name``.

        Raises
        ------
        KeyError
            If there is none.
        """
        view, _, name = address.partition(":")
        for feature in self.views[view].readable:
            if feature.name == name:
                return feature
        raise KeyError(address)
