"""What definitions compile to: frozen, plain, comparable; no reference to the user's classes.

Every other room reads these. Names of events, views, models and capabilities are snake_case.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

DType = Literal["int", "float", "str", "bool"]
Kind = Literal[
    "count", "sum", "mean", "min", "max", "first", "last", "top", "since_last", "decayed"
]


def digest(*parts: object) -> str:
    """Return a short, stable name for ``parts`` (16 hex digits of BLAKE2b over their reprs)."""
    text = "\x1f".join(repr(part) for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class EntitySpec:
    """Something that features describe, and the column that identifies it."""

    name: str
    dtype: Literal["int", "str"]
    description: str = ""


@dataclass(frozen=True)
class FieldSpec:
    """One field of an event."""

    name: str
    dtype: DType
    optional: bool = False


@dataclass(frozen=True)
class EventSpec:
    """A kind of event. ``subject`` is the field that says whom a record is about, if any."""

    name: str
    version: int
    fields: tuple[FieldSpec, ...]
    subject: str | None
    owner: str = ""
    description: str = ""

    @cached_property
    def schema_id(self) -> str:
        """The name under which records of exactly this shape are stored."""
        shape = tuple((f.name, f.dtype, f.optional) for f in self.fields)
        return f"{self.name}.v{self.version}.{digest(shape)[:8]}"


@dataclass(frozen=True)
class FoldSpec:
    """How events become the tiles of one aggregation for one kind of entity.

    ``keys`` are the event's key fields (empty: one row for the whole project). ``hop`` is the
    tile's width in µs; 0 means one tile for all time. Hops of whole days start at midnight in
    ``timezone``. ``retention`` is the longest window that reads these tiles, in µs (None: for
    ever). Two features with the same fold share its tiles, whatever their windows.
    ``dtype`` is the field's (``int`` without one), ``n`` how many values ``last`` keeps (1 for all
    other kinds: tiles of ``top`` hold every value), ``half_life`` is in µs.
    """

    kind: Kind
    event: str
    field: str | None
    dtype: DType
    keys: tuple[EntitySpec, ...]
    hop: int
    timezone: str
    n: int = 1
    half_life: int = 0
    retention: int | None = dataclasses.field(default=None, compare=False)

    @cached_property
    def fingerprint(self) -> bytes:
        """Eight bytes that name these tiles in the store; a changed meaning changes them."""
        keys = tuple((k.name, k.dtype) for k in self.keys)
        zone = self.timezone if self.hop and self.hop % 86_400_000_000 == 0 else ""
        parts = (
            self.kind,
            self.event,
            self.field,
            self.dtype,
            keys,
            self.hop,
            zone,
            self.n,
            self.half_life,
        )
        return bytes.fromhex(digest("tiles/1", *parts))


@dataclass(frozen=True)
class FeatureSpec:
    """One feature: a read over the tiles of one fold.

    ``window`` in µs (None: all time); ``calendar`` is the number of whole local days that the
    window is (0: a sliding window; 1: today; 7: today and the six days before).
    ``is_list`` features give a list of up to ``n`` values; others one value.
    """

    view: str
    name: str
    fold: FoldSpec
    window: int | None
    calendar: int
    dtype: DType
    is_list: bool
    n: int
    default: Any
    ttl: int | None
    description: str = ""

    @cached_property
    def address(self) -> str:
        """``view:feature``, its one name everywhere."""
        return f"{self.view}:{self.name}"


@dataclass(frozen=True)
class ExpressionSpec:
    """Arithmetic over features, computed for each row when a model's columns are assembled.

    A missing operand, and a division by zero, make it missing.
    """

    op: Literal["+", "-", "*", "/"]
    left: FeatureSpec | ExpressionSpec | float
    right: FeatureSpec | ExpressionSpec | float

    @cached_property
    def address(self) -> str:
        """How it reads: ``(user_profile:orders - user_item:last_order)``."""
        sides = [
            side.address if isinstance(side, FeatureSpec | ExpressionSpec) else repr(side)
            for side in (self.left, self.right)
        ]
        return f"({sides[0]} {self.op} {sides[1]})"

    @cached_property
    def inputs(self) -> tuple[FeatureSpec, ...]:
        """The features it reads, each once, in order."""
        seen: dict[str, FeatureSpec] = {}
        for side in (self.left, self.right):
            if isinstance(side, FeatureSpec):
                seen.setdefault(side.address, side)
            elif isinstance(side, ExpressionSpec):
                seen.update((f.address, f) for f in side.inputs if f.address not in seen)
        return tuple(seen.values())


@dataclass(frozen=True)
class ViewSpec:
    """Features of one entity (or of several together, or of none)."""

    name: str
    entities: tuple[EntitySpec, ...]
    features: tuple[FeatureSpec, ...]
    owner: str = ""
    description: str = ""


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

    ``columns`` are what it is trained on and scores, in order; ``features`` are what is read to
    compute them.
    """

    name: str
    columns: tuple[FeatureSpec | ExpressionSpec, ...]
    label: OutcomeSpec
    metric: str
    train: Callable[..., Any] = dataclasses.field(compare=False)
    code_digest: str
    owner: str = ""
    description: str = ""

    @cached_property
    def features(self) -> tuple[FeatureSpec, ...]:
        """Every feature that its columns need, each once, in order of appearance."""
        seen: dict[str, FeatureSpec] = {}
        for column in self.columns:
            inputs = column.inputs if isinstance(column, ExpressionSpec) else (column,)
            for feature in inputs:
                seen.setdefault(feature.address, feature)
        return tuple(seen.values())

    @cached_property
    def keys(self) -> tuple[EntitySpec, ...]:
        """Every entity that its features need, each once, in order of appearance."""
        seen: dict[str, EntitySpec] = {}
        for feature in self.features:
            for entity in feature.fold.keys:
                seen.setdefault(entity.name, entity)
        return tuple(seen.values())

    @cached_property
    def columns_digest(self) -> str:
        """Names the meaning of its columns: vectors with the same digest can be mixed."""
        features = tuple(
            (f.address, f.fold.fingerprint, f.window, f.calendar, f.default, f.ttl)
            for f in self.features
        )
        return digest(tuple(column.address for column in self.columns), features)

    @cached_property
    def definition_digest(self) -> str:
        """Changes when the columns, the label or the metric change."""
        return digest(self.name, self.columns_digest, self.label, self.metric)


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter of a capability's request."""

    name: str
    annotation: Any
    required: bool
    default: Any


@dataclass(frozen=True)
class CapabilitySpec:
    """An API: request → candidates → features → scores → the function's reply.

    ``item`` is the key that differs between the rows to score: filled from ``candidates``, or
    from a request parameter that is a list. ``reads`` are features that the function looks at
    though the model does not.
    """

    name: str
    path: str
    model: str
    item: str
    candidates: tuple[FeatureSpec, ...]
    fallback: FeatureSpec | None
    reads: tuple[FeatureSpec, ...]
    parameters: tuple[ParameterSpec, ...]
    returns: Any
    function: Callable[..., Any] = dataclasses.field(compare=False)
    owner: str = ""
    description: str = ""


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
    def folds(self) -> tuple[FoldSpec, ...]:
        """Every fold that some feature reads, each once, kept as long as its longest window."""
        folds: dict[bytes, FoldSpec] = {}
        for view in self.views.values():
            for feature in view.features:
                fold = feature.fold
                known = folds.setdefault(fold.fingerprint, fold)
                if _outlasts(fold.retention, known.retention):
                    folds[fold.fingerprint] = fold
        return tuple(folds.values())

    def feature(self, address: str) -> FeatureSpec:
        """Return the feature at ``view:name``.

        Raises
        ------
        KeyError
            If there is none.
        """
        view, _, name = address.partition(":")
        for feature in self.views[view].features:
            if feature.name == name:
                return feature
        raise KeyError(address)


def _outlasts(a: int | None, b: int | None) -> bool:
    return b is not None and (a is None or a > b)
