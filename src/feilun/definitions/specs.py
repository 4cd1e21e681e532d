"""What definitions compile to: frozen, plain, comparable; no reference to the user's classes.

Every other room reads these. Names of events, views, models and capabilities are snake_case.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from feilun.definitions.exploration import Epsilon

DType = Literal["int", "float", "str", "bool", "vector"]
Kind = Literal[
    "count",
    "sum",
    "mean",
    "var",
    "std",
    "min",
    "max",
    "first",
    "last",
    "top",
    "distinct",
    "quantile",
    "since_last",
    "decayed",
    "custom",
]

Operator = Literal["+", "-", "*", "/", "cosine", "same"]


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
    """One field of an event. A ``vector`` has ``dim`` float64 numbers.

    A ``deprecated`` field is still taken, and features over it still work; new ones should not.
    """

    name: str
    dtype: DType
    optional: bool = False
    dim: int = 0
    deprecated: bool = dataclasses.field(default=False, compare=False)


@dataclass(frozen=True)
class TableSpec:
    """Where the rows of a table come from. Names of columns are the source's own.

    ``source`` is a name in ``feilun.toml`` and ``table`` what the source calls the table. ``key``
    are the fields that name a row, ``time`` is the column that says when a row became what it is,
    ``columns`` has the column of each field, in the order of the fields. ``every`` is how often
    to synchronise (None: only when told to), ``lookback`` how far behind the newest row a sync
    looks again; both in µs. ``available`` is the column that says when a row became known, or a
    delay after its time in µs; None: when it was synchronised.
    """

    source: str
    table: str
    key: tuple[str, ...]
    time: str
    columns: tuple[str, ...]
    every: int | None
    lookback: int
    available: str | int | None = None


@dataclass(frozen=True)
class EventSpec:
    """A kind of event. ``subject`` is the field that says whom a record is about, if any.

    The events of a ``table`` are its rows: they come by synchronisation and no other way.
    """

    name: str
    version: int
    fields: tuple[FieldSpec, ...]
    subject: str | None
    owner: str = ""
    description: str = ""
    table: TableSpec | None = None

    @cached_property
    def schema_id(self) -> str:
        """The name under which records of exactly this shape are stored."""
        shape = tuple(
            (f.name, f.dtype, f.optional, *((f.dim,) if f.dim else ())) for f in self.fields
        )
        return f"{self.name}.v{self.version}.{digest(shape)[:8]}"


@dataclass(frozen=True)
class ConditionSpec:
    """Which events a fold counts: a comparison of one field, or conditions put together.

    ``field`` and ``value`` are of comparisons (``in`` has a tuple of values), ``parts`` of
    ``and``, ``or`` and ``not``. A comparison of an absent field is false, also ``!=``, and
    ``not`` turns what it holds around, so that it is true of an absent field.
    """

    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "and", "or", "not"]
    field: str = ""
    value: Any = None
    parts: tuple[ConditionSpec, ...] = ()

    def __str__(self) -> str:
        if self.op == "not":
            return f"~{self.parts[0]}"
        if self.parts:
            return f"({(' & ' if self.op == 'and' else ' | ').join(map(str, self.parts))})"
        if self.op == "in":
            return f"{self.field}.is_in({list(self.value)!r})"
        return f"({self.field} {self.op} {self.value!r})"

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields it looks at, each once, in order."""
        names = (self.field,) if self.field else ()
        return tuple(dict.fromkeys((*names, *(n for part in self.parts for n in part.fields))))


@dataclass(frozen=True)
class CustomSpec:
    """An aggregation that a project brings along: its class, and a digest of its code."""

    name: str
    code_digest: str
    implementation: type[Any] = dataclasses.field(compare=False)


@dataclass(frozen=True)
class FoldSpec:
    """How events become the tiles of one aggregation for one kind of entity.

    ``keys`` are the event's key fields (empty: one row for the whole project). ``hop`` is the
    tile's width in µs; 0 means one tile for all time. Hops of whole days start at midnight in
    ``timezone``. ``retention`` is the longest window that reads these tiles, in µs (None: for
    ever). Two features with the same fold share its tiles, whatever their windows.
    ``dtype`` is the field's (``int`` without one), ``n`` how many values ``last`` keeps (1 for all
    other kinds), ``half_life`` is in µs, ``dim`` the length of a vector. Events for which ``where``
    does not hold are left out. ``custom`` is the aggregation of kind ``custom``. ``required`` says
    that the field is never absent; where it is, the event is left out.
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
    where: ConditionSpec | None = None
    dim: int = 0
    custom: CustomSpec | None = None
    required: bool = dataclasses.field(default=False, compare=False)

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
            self.where,
            self.dim,
            self.custom and (self.custom.name, self.custom.code_digest),
        )
        return bytes.fromhex(digest("tiles/2", *parts))


@dataclass(frozen=True)
class FeatureSpec:
    """One feature: a read over the tiles of one fold.

    ``window`` in µs (None: all time); ``calendar`` is the number of whole local days that the
    window is (0: a sliding window; 1: today; 7: today and the six days before).
    ``is_list`` features give a list of up to ``n`` values; others one value. ``quantile`` is which
    one a feature of that kind reads.
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
    quantile: float = 0.5

    @property
    def formula(self) -> str:
        """Return what it is made of, nearly as its definition says it."""
        fold = self.fold
        said = [f"{fold.event}.{fold.field}" if fold.field else fold.event]
        if fold.custom is not None:
            said.insert(0, fold.custom.name)
        if fold.kind == "quantile":
            said.append(f"{self.quantile:g}")
        if fold.where is not None:
            said.append(f"where={fold.where}")
        return f"{fold.kind}({', '.join(said)})"

    @cached_property
    def address(self) -> str:
        """``view:feature``, its one name everywhere."""
        return f"{self.view}:{self.name}"

    @property
    def keys(self) -> tuple[EntitySpec, ...]:
        """The entities whose values it is read by."""
        return self.fold.keys

    @property
    def width(self) -> int:
        """How many columns of a matrix it is: those of a vector, or one."""
        return self.fold.dim or 1


@dataclass(frozen=True)
class RequestSpec:
    """What the request itself says: a parameter of it, or when it came.

    ``name`` is that of the parameter; or ``hour`` (0 to 23) or ``weekday`` (Monday is 0) of the
    moment of the request in ``timezone``, which is empty for parameters.
    """

    name: str
    dtype: DType
    timezone: str = ""

    keys: ClassVar[tuple[EntitySpec, ...]] = ()
    is_list: ClassVar[bool] = False
    default: ClassVar[None] = None
    width: ClassVar[int] = 1

    @cached_property
    def address(self) -> str:
        """``request:name``."""
        return f"request:{self.name}"

    @property
    def is_moment(self) -> bool:
        """Whether it is about when the request came, not a parameter."""
        return self.timezone != ""


@dataclass(frozen=True)
class ExpressionSpec:
    """Arithmetic over features, computed for each row; a feature of ``view`` if it has a ``name``.

    ``cosine`` is that of the angle between two vectors, ``same`` 1 where two values are equal, else
    0. A missing operand, a division by zero and a result that is not finite make it missing.
    """

    op: Operator
    left: Readable | float
    right: Readable | float
    view: str = ""
    name: str = ""

    dtype: ClassVar[DType] = "float"
    is_list: ClassVar[bool] = False
    default: ClassVar[None] = None
    width: ClassVar[int] = 1

    @cached_property
    def address(self) -> str:
        """``view:name``, or how it reads: ``(user_profile:orders - user_item:last_order)``."""
        if self.name:
            return f"{self.view}:{self.name}"
        return _joined(self.op, _written(self.left), _written(self.right))

    @cached_property
    def formula(self) -> str:
        """How it reads with nothing named in it but features that are read."""
        left, right = (
            side.formula if isinstance(side, Computed) else _written(side)
            for side in (self.left, self.right)
        )
        return _joined(self.op, left, right)

    @cached_property
    def inputs(self) -> tuple[FeatureSpec | RequestSpec, ...]:
        """The features it is computed from, each once, in order."""
        sides = (self.left, self.right)
        return inputs_of(side for side in sides if isinstance(side, Readable))

    @cached_property
    def keys(self) -> tuple[EntitySpec, ...]:
        """Every entity that its features need, each once, in order."""
        return tuple(dict.fromkeys(key for feature in self.inputs for key in feature.keys))


@dataclass(frozen=True)
class EncodingSpec:
    """A text's vector of ``dim`` numbers, by one version of an encoder.

    ``digest`` is that version; ``encoder`` is what the project calls it.
    """

    encoder: str
    digest: str
    dim: int
    text: FeatureSpec | RequestSpec

    dtype: ClassVar[DType] = "vector"
    is_list: ClassVar[bool] = False
    default: ClassVar[None] = None

    @cached_property
    def address(self) -> str:
        """``encoder(address of the text)``."""
        return f"{self.encoder}({self.text.address})"

    @cached_property
    def formula(self) -> str:
        """How it reads with the version of the encoder."""
        return f"{self.encoder}@{self.digest}({self.text.address})"

    @property
    def width(self) -> int:
        """How many columns of a matrix it is."""
        return self.dim

    @property
    def inputs(self) -> tuple[FeatureSpec | RequestSpec, ...]:
        """What it is computed from."""
        return (self.text,)

    @property
    def keys(self) -> tuple[EntitySpec, ...]:
        """The entities whose values its text is read by."""
        return self.text.keys


Readable = FeatureSpec | RequestSpec | ExpressionSpec | EncodingSpec
"""What has a value for each row: it is read, said by the request, or computed from such."""
Computed = ExpressionSpec | EncodingSpec


def _joined(op: Operator, left: str, right: str) -> str:
    return f"{op}({left}, {right})" if op.isalpha() else f"({left} {op} {right})"


def _written(side: Readable | float) -> str:
    return side.address if isinstance(side, Readable) else repr(side)


def inputs_of(wanted: Iterable[Readable]) -> tuple[FeatureSpec | RequestSpec, ...]:
    """Return what must be there to compute what is wanted, each once, in order."""
    seen: dict[str, FeatureSpec | RequestSpec] = {}
    for each in wanted:
        for part in each.inputs if isinstance(each, Computed) else (each,):
            seen.setdefault(part.address, part)
    return tuple(seen.values())


def encodings_of(wanted: Iterable[Readable]) -> tuple[EncodingSpec, ...]:
    """Return the vectors of texts that must be there to compute what is wanted, each once."""
    seen: dict[str, EncodingSpec] = {}
    for each in wanted:
        if isinstance(each, EncodingSpec):
            seen.setdefault(each.formula, each)
        elif isinstance(each, ExpressionSpec):
            sides = (each.left, each.right)
            for part in encodings_of(side for side in sides if isinstance(side, Readable)):
                seen.setdefault(part.formula, part)
    return tuple(seen.values())


def features_of(wanted: Iterable[Readable]) -> tuple[FeatureSpec, ...]:
    """Return the features that must be read to compute what is wanted, each once, in order."""
    return tuple(part for part in inputs_of(wanted) if isinstance(part, FeatureSpec))


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
    compute them.
    """

    name: str
    columns: tuple[Readable, ...]
    label: OutcomeSpec
    metric: str
    train: Callable[..., Any] | None = dataclasses.field(compare=False)
    code_digest: str
    owner: str = ""
    description: str = ""

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
        """Every entity that its features need, each once, in order of appearance."""
        return tuple(dict.fromkeys(key for feature in self.features for key in feature.keys))

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


def longest(folds: Iterable[FoldSpec]) -> tuple[FoldSpec, ...]:
    """Return every fold once, kept as long as the longest window that reads it."""
    found: dict[bytes, FoldSpec] = {}
    for fold in folds:
        known = found.setdefault(fold.fingerprint, fold)
        if _outlasts(fold.retention, known.retention):
            found[fold.fingerprint] = fold
    return tuple(found.values())


def _outlasts(a: int | None, b: int | None) -> bool:
    return b is not None and (a is None or a > b)
