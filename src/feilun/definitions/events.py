"""Events: what happens in the business, as typed classes and frozen values."""

from __future__ import annotations

import inspect
import types
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    NoReturn,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from feilun.definitions.conditions import Comparable
from feilun.definitions.sites import Site, calling_site, snake_case
from feilun.definitions.specs import DType, FieldSpec
from feilun.definitions.values import checked_value
from feilun.errors import DefinitionError, InputError, Problem

T_co = TypeVar("T_co", covariant=True)

Vector: TypeAlias = Sequence[float]
"""The type of a field that holds so many numbers, such as an embedding."""

DTYPES: dict[Any, DType] = {
    int: "int",
    float: "float",
    str: "str",
    bool: "bool",
    Vector: "vector",
}
"""The types a field may have."""

MAX_DIM = 4_096
"""A vector has at most so many numbers."""

_UNSET: Any = object()


class Field(Comparable[T_co], Generic[T_co]):
    """A field of an event.

    On the class it is a reference to the field, for aggregations and (compared to a value) for
    their ``where=``; on an instance it is the value.

    Parameters
    ----------
    default : None
        Written out (``coupon: fl.Field[str | None] = fl.Field(default=None)``) it lets an optional
        field be left out of the constructor.
    dim : int, optional
        How many numbers a vector has: ``embedding: fl.Field[fl.Vector] = fl.Field(dim=8)``.
    deprecated : bool
        New events should not need it any more. It is still taken, and documented as deprecated.
    """

    event: type[Event]
    name: str

    def __init__(self, *, default: None = _UNSET, dim: int = 0, deprecated: bool = False) -> None:
        self.has_default = default is not _UNSET
        self.dim = dim
        self.deprecated = deprecated

    def __set_name__(self, owner: type[Event], name: str) -> None:
        self.event, self.name = owner, name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> T_co: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Any:
        """Return the reference from the class, the value from an instance."""
        return self if instance is None else vars(instance)[self.name]

    # Type checkers take the constructor's types from here. Nothing is ever set, so T may be
    # covariant all the same, and Field[int] is accepted where Field[int | None] is.
    def __set__(self, instance: object, value: T_co) -> NoReturn:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        """Refuse: events are frozen."""
        raise FrozenInstanceError(f"cannot assign to field {self.name!r}")

    def __repr__(self) -> str:
        return f"{self.event.__name__}.{self.name}"


@dataclass(frozen=True, slots=True)
class EventDeclaration:
    """What the class statement of an event says beside its fields."""

    name: str
    version: int
    owner: str
    description: str
    site: Site


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
class Event:
    """The base of every event. A subclass declares fields; an instance is one event.

    Class keywords are ``version``, ``owner`` and ``description`` (by default, the docstring).
    Fields are ``int``, ``float``, ``str``, ``bool``, ``Vector``, or one of them ``| None``.

    Raises
    ------
    InputError
        By the constructor, if a value is missing, unknown, or of another type: an ``int`` fits in
        64 bits, a ``float`` is finite.

    Examples
    --------
    >>> class Click(Event):
    ...     user_id: Field[int]
    ...     page: Field[str | None] = Field(default=None)
    >>> Click(user_id=7)
    Click(user_id=7, page=None)
    >>> Click(user_id=7).to_fields()
    {'user_id': 7, 'page': None}
    """

    __feilun__: ClassVar[EventDeclaration]
    __feilun_fields__: ClassVar[FieldReading | None] = None

    def __init_subclass__(cls, *, version: int = 1, owner: str = "", description: str = "") -> None:
        cls.__feilun__ = EventDeclaration(
            name=snake_case(cls.__name__),
            version=version,
            owner=owner,
            description=description or inspect.cleandoc(cls.__dict__.get("__doc__") or ""),
            site=calling_site(),
        )
        cls.__feilun_fields__ = None
        for name in inspect.get_annotations(cls):
            if name not in cls.__dict__:
                field: Field[Any] = Field()
                field.__set_name__(cls, name)
                setattr(cls, name, field)

    def __init__(self, **values: Any) -> None:
        specs = event_fields(type(self))
        known = {spec.name for spec in specs}
        faults = [f"unknown field {name!r}" for name in values if name not in known]
        for spec in specs:
            if spec.name in values:
                try:
                    vars(self)[spec.name] = checked_value(spec, values[spec.name])
                except ValueError as error:
                    faults.append(f"{spec.name} {error}")
            elif vars(type(self))[spec.name].has_default:
                vars(self)[spec.name] = None
            else:
                faults.append(f"{spec.name} is missing")
        if faults:
            raise InputError(
                f"{type(self).__name__} cannot be made: {'; '.join(faults)}.",
                f"Its fields are: {', '.join(map(_describe, specs))}.",
            )

    def to_fields(self) -> dict[str, Any]:
        """Return the values by field name, in the order of the declaration."""
        return dict(vars(self))

    if not TYPE_CHECKING:  # to a type checker, it would make every attribute assignable

        def __setattr__(self, name: str, value: Any) -> NoReturn:
            raise FrozenInstanceError(f"cannot assign to {name!r}: events are frozen")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({values})"


@dataclass(frozen=True, slots=True)
class FieldReading:
    """The fields of an event class as its annotations say, and what is wrong with them."""

    fields: tuple[FieldSpec, ...]
    faults: tuple[Problem, ...]


def read_fields(event: type[Event]) -> FieldReading:
    """Read the annotations of an event class, once."""
    if event.__feilun_fields__ is None:
        event.__feilun_fields__ = _read_fields(event)
    return event.__feilun_fields__


def event_fields(event: type[Event]) -> tuple[FieldSpec, ...]:
    """Return the fields of an event class.

    Raises
    ------
    DefinitionError
        If one of its annotations is wrong.
    """
    reading = read_fields(event)
    if reading.faults:
        raise DefinitionError(reading.faults)
    return reading.fields


def _read_fields(event: type[Event]) -> FieldReading:
    where = f"{event.__feilun__.site} {event.__name__}"
    try:
        hints = get_type_hints(event)
    except Exception as error:  # an annotation is the user's own expression: anything may come
        problem = Problem(
            where,
            f"an annotation cannot be read ({type(error).__name__}: {error}).",
            "Import or define the name it uses at the top of the module.",
        )
        return FieldReading((), (problem,))
    fields: list[FieldSpec] = []
    faults: list[Problem] = []
    for name in inspect.get_annotations(event):
        hint = hints[name]
        if get_origin(hint) is ClassVar:
            continue
        spec = _field_spec(name, hint)
        reference = vars(event).get(name)
        fault = _fault(hint, spec, reference)
        if fault is not None:
            faults.append(Problem(f"{where}.{name}", *fault))
        elif spec is not None and isinstance(reference, Field):
            fields.append(replace(spec, dim=reference.dim, deprecated=reference.deprecated))
    return FieldReading(tuple(fields), tuple(faults))


def _fault(hint: Any, spec: FieldSpec | None, reference: Any) -> tuple[str, str] | None:
    """Return what is wrong with a field, and what to do; None if it is right."""
    if spec is None:
        return (
            f"the annotation {_show(hint)} is not a field.",
            "Write fl.Field[int], with int, float, str, bool or fl.Vector, or one of them | None.",
        )
    if not isinstance(reference, Field) or (reference.has_default and not spec.optional):
        return (
            "a field takes no value in the class.",
            "Leave it out; an optional field may say = fl.Field(default=None).",
        )
    if spec.dtype != "vector":
        return ("only a vector has dim=.", "Leave it out.") if reference.dim else None
    if type(reference.dim) is not int or not 1 <= reference.dim <= MAX_DIM:
        return (
            f"a vector of dim={reference.dim!r}.",
            f"Say how many numbers it has, 1 to {MAX_DIM}: = fl.Field(dim=8).",
        )
    return None


def _field_spec(name: str, hint: Any) -> FieldSpec | None:
    if get_origin(hint) is not Field:
        return None
    (inner,) = get_args(hint)
    options = get_args(inner) if get_origin(inner) in (Union, types.UnionType) else (inner,)
    concrete = [option for option in options if option is not types.NoneType]
    if len(concrete) != 1 or concrete[0] not in DTYPES:
        return None
    return FieldSpec(name, DTYPES[concrete[0]], optional=len(options) > 1)


def _show(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _describe(spec: FieldSpec) -> str:
    dtype = f"vector of {spec.dim}" if spec.dim else spec.dtype
    return f"{spec.name}: {dtype}{' | None' if spec.optional else ''}"
