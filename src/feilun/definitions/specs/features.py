"""Folds of events, features over them, and what is computed from features."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from feilun.definitions.specs.events import DType, EntitySpec, digest

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


@dataclass(frozen=True)
class ClassSpec:
    """What a text classifier gives the class that a row is about; never in definitions.

    ``encoding`` is its numbers for a text, one for each of ``classes``. ``item`` is the key of the
    rows, whose values are classes; without one, all rows have the only number.
    """

    encoding: EncodingSpec
    classes: tuple[str, ...]
    item: str

    dtype: ClassVar[DType] = "float"
    is_list: ClassVar[bool] = False
    default: ClassVar[None] = None
    width: ClassVar[int] = 1

    @cached_property
    def address(self) -> str:
        """``classifier(address of the text)[item]``."""
        return f"{self.encoding.address}[{self.item}]" if self.item else self.encoding.address

    @cached_property
    def formula(self) -> str:
        """How it reads with the version of the classifier."""
        return f"{self.encoding.formula}[{self.item}]"

    @property
    def rows(self) -> str:
        """Under which address the class of each row stands."""
        return f"row:{self.item}"

    @property
    def inputs(self) -> tuple[FeatureSpec | RequestSpec, ...]:
        """What it is computed from."""
        return self.encoding.inputs

    @property
    def keys(self) -> tuple[EntitySpec, ...]:
        """The entities whose values its text is read by."""
        return self.encoding.keys


Readable = FeatureSpec | RequestSpec | ExpressionSpec | EncodingSpec | ClassSpec
"""What has a value for each row: it is read, said by the request, or computed from such."""
Computed = ExpressionSpec | EncodingSpec | ClassSpec


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
        elif isinstance(each, ClassSpec):
            seen.setdefault(each.encoding.formula, each.encoding)
        elif isinstance(each, ExpressionSpec):
            sides = (each.left, each.right)
            for part in encodings_of(side for side in sides if isinstance(side, Readable)):
                seen.setdefault(part.formula, part)
    return tuple(seen.values())


def features_of(wanted: Iterable[Readable]) -> tuple[FeatureSpec, ...]:
    """Return the features that must be read to compute what is wanted, each once, in order."""
    return tuple(part for part in inputs_of(wanted) if isinstance(part, FeatureSpec))
