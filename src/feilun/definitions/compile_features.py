"""Compiles one aggregation to a feature and its fold, and says what is wrong with it."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from feilun.clock import DAY
from feilun.definitions.compile_conditions import compile_condition
from feilun.definitions.compile_custom import compile_custom
from feilun.definitions.events import Event, Field
from feilun.definitions.features import FeatureDeclaration
from feilun.definitions.kinds import TAKES, TAKES_EVENTS, result_type
from feilun.definitions.problems import nearest, shown
from feilun.definitions.scope import Scope
from feilun.definitions.specs import (
    CustomSpec,
    DType,
    EntitySpec,
    EventSpec,
    FeatureSpec,
    FieldSpec,
    FoldSpec,
    Kind,
)
from feilun.definitions.values import checked_value
from feilun.definitions.windows import (
    Window,
    WindowError,
    check_hop,
    check_vectors,
    default_hop,
    parse_duration,
    parse_window,
)

MAX_LIST = 1000
"""A list feature holds at most so many values."""

Parsed = TypeVar("Parsed")


class _Source(NamedTuple):
    """What is aggregated: an event, or one field of it."""

    event: EventSpec
    field: FieldSpec | None


class FeatureCompiler:
    """Compiles features, one at a time."""

    def __init__(self, scope: Scope) -> None:
        self._events = scope.events
        self._timezone = scope.timezone
        self._problems = scope.problems

    def compile(
        self,
        where: str,
        address: tuple[str, str],
        keys: tuple[EntitySpec, ...],
        declaration: FeatureDeclaration,
    ) -> FeatureSpec | None:
        """Return the spec of the feature at (view, name), or None if something is wrong with it."""
        view, name = address
        already = len(self._problems.found)
        kind, n = declaration.kind, declaration.n
        source = self._source(where, declaration)
        if source is not None:
            self._check_keys(where, source.event, keys)
        window, hop = self._window(where, declaration)
        half_life = self._half_life(where, declaration)
        ttl = self._ttl(where, declaration)
        quantile = self._quantile(where, declaration)
        custom = self._custom(where, declaration)
        self._check_length(where, n, source)
        if kind == "mean" and source is not None and source.field and window is not None:
            self._check_vectors(where, window.length, hop, source.field.dim)
        if source is None or (kind == "custom" and custom is None):
            return None
        condition = compile_condition(where, declaration.where, source.event, self._problems)
        of = source.field.dtype if source.field else "int"
        if custom is not None:
            dtype: DType = custom.implementation.dtype
        else:
            dtype = result_type(kind, of)
        default = self._default(where, declaration, dtype)
        if len(self._problems.found) > already:
            return None
        length = window.length if window else None
        fold = FoldSpec(
            kind=kind,
            event=source.event.name,
            field=source.field.name if source.field else None,
            dtype=of,
            keys=keys,
            hop=hop,
            timezone=self._timezone,
            n=n or 1 if kind == "last" else 1,
            half_life=half_life,
            retention=length,
            where=condition,
            dim=source.field.dim if source.field else 0,
            custom=custom,
            required=source.field is None or not source.field.optional,
        )
        return FeatureSpec(
            view=view,
            name=name,
            fold=fold,
            window=length,
            calendar=window.calendar if window else 0,
            dtype=dtype,
            is_list=n is not None,
            n=n or 1,
            default=default,
            ttl=ttl,
            description=declaration.description,
            quantile=quantile,
        )

    def _source(self, where: str, declaration: FeatureDeclaration) -> _Source | None:
        """Return what is aggregated; None if it is wrong, or its event is and was noted there."""
        kind, source = declaration.kind, declaration.source
        if isinstance(source, Field) and kind in TAKES:
            return self._field(where, kind, source)
        if isinstance(source, type) and issubclass(source, Event) and kind in TAKES_EVENTS:
            event = self._events.get(source)
            return _Source(event, None) if event else None
        call = "fl.custom(Aggregation, " if kind == "custom" else f"fl.{kind}("
        if kind not in TAKES:
            taken, fix = "an event", f"Write {call}Event)."
        elif kind in TAKES_EVENTS:
            taken, fix = "an event or a field", f"Write {call}Event) or {call}Event.field)."
        else:
            taken, fix = "a field", f"Name it by its event: {call}Event.field)."
        self._problems.add(where, f"{kind}() takes {taken}, not {shown(source)}.", fix)
        return None

    def _field(self, where: str, kind: Kind, source: Field[Any]) -> _Source | None:
        event = self._events.get(source.event)
        field = next((f for f in event.fields if f.name == source.name), None) if event else None
        if event is None or field is None:
            return None
        if field.dtype in TAKES[kind]:
            return _Source(event, field)
        if field.dtype == "vector":
            what, fix = "no vector", "Write fl.last or fl.mean, which do."
        else:
            what = "a number"
            fix = "Choose another field, or fl.first, fl.last, fl.top, which take any type."
        self._problems.add(where, f"{kind}() takes {what}, and {source!r} is {field.dtype}.", fix)
        return None

    def _check_keys(self, where: str, event: EventSpec, keys: tuple[EntitySpec, ...]) -> None:
        for entity in keys:
            problem = unlike_key(event, entity)
            if problem is not None:
                self._problems.add(where, *problem)

    def _window(self, where: str, declaration: FeatureDeclaration) -> tuple[Window | None, int]:
        """Return the window (None: all time, or unreadable) and the tile width in µs."""
        if declaration.window is None:
            if declaration.hop is not None:
                self._problems.add(
                    where, "hop= means nothing without a window.", "Leave it out, or add window=."
                )
            return None, 0
        window = self._parse(where, parse_window, declaration.window)
        if window is None or window.calendar:
            if window is not None and declaration.hop is not None:
                self._problems.add(
                    where, "a window of calendar days has hops of a day.", "Leave hop= out."
                )
            return window, DAY
        hop = (
            default_hop(window.length)
            if declaration.hop is None
            else self._parse(where, parse_duration, declaration.hop)
        )
        if hop is not None:
            try:
                check_hop(window.length, hop)
            except WindowError as error:
                self._problems.add(where, error.what, error.fix)
        return window, hop or 0

    def _check_vectors(self, where: str, window: int, hop: int, dim: int) -> None:
        try:
            check_vectors(window, hop, dim)
        except WindowError as error:
            self._problems.add(where, error.what, error.fix)

    def _half_life(self, where: str, declaration: FeatureDeclaration) -> int:
        if declaration.kind != "decayed":
            return 0
        return self._parse(where, parse_duration, declaration.half_life) or 0

    def _ttl(self, where: str, declaration: FeatureDeclaration) -> int | None:
        if declaration.ttl is None:
            return None
        if declaration.window is not None or declaration.n is not None:
            self._problems.add(
                where,
                "ttl= is for a single last value without a window.",
                "Leave it out: a window already lets old values go.",
            )
        return self._parse(where, parse_duration, declaration.ttl)

    def _quantile(self, where: str, declaration: FeatureDeclaration) -> float:
        if declaration.kind != "quantile":
            return 0.5
        q = declaration.quantile
        if isinstance(q, bool) or not isinstance(q, int | float) or not 0 <= q <= 1:
            self._problems.add(
                where,
                f"{q!r} is not a share.",
                "Write 0 to 1: 0.5 is the median, 0.9 near the top.",
            )
            return 0.5
        return float(q)

    def _custom(self, where: str, declaration: FeatureDeclaration) -> CustomSpec | None:
        if declaration.kind != "custom":
            return None
        return compile_custom(where, declaration.aggregation, self._problems)

    def _check_length(self, where: str, n: object, source: _Source | None) -> None:
        if n is not None and source and source.field and source.field.dtype == "vector":
            self._problems.add(where, "there is no list of vectors.", "Leave n= out.")
            return
        if n is not None and (type(n) is not int or not 1 <= n <= MAX_LIST):
            self._problems.add(
                where,
                f"n={n!r} is no length of a list.",
                f"Write 1 to {MAX_LIST}, or leave it out.",
            )

    def _default(self, where: str, declaration: FeatureDeclaration, dtype: DType) -> Any:
        if declaration.default is None:
            return None
        if declaration.n is not None or dtype == "vector":
            what = (
                "vector takes no default"
                if dtype == "vector"
                else "list takes no default: it is empty"
            )
            self._problems.add(where, f"a {what}.", "Leave default= out.")
            return None
        try:
            return checked_value(FieldSpec("default", dtype), declaration.default)
        except ValueError as error:
            self._problems.add(where, f"default= {error}.", f"The feature is {dtype}.")
            return None

    def _parse(self, where: str, parse: Callable[[object], Parsed], text: object) -> Parsed | None:
        try:
            return parse(text)
        except WindowError as error:
            self._problems.add(where, error.what, error.fix)
            return None


def missing_key(event: EventSpec, entity: EntitySpec) -> tuple[str, str] | None:
    """Return what is wrong, and what to do, if some event does not say which entity it is about."""
    if problem := unlike_key(event, entity):
        return problem
    if next(field.optional for field in event.fields if field.name == entity.name):
        return (
            f"{entity.name!r} may be None in the event {event.name!r}, and a key may not.",
            "Make the field required.",
        )
    return None


def unlike_key(event: EventSpec, entity: EntitySpec) -> tuple[str, str] | None:
    """Return what is wrong, and what to do, if the event has no such key, or of another type.

    It may be optional: events of nobody then count for nobody.
    """
    fields = {field.name: field for field in event.fields}
    field = fields.get(entity.name)
    if field is None:
        return (
            f"the event {event.name!r} has no field {entity.name!r}, the key of the entity.",
            nearest(entity.name, fields),
        )
    if field.dtype != entity.dtype:
        return (
            f"{entity.name!r} is {field.dtype} in the event {event.name!r}, "
            f"but {entity.dtype} as an entity.",
            "Give both the same type.",
        )
    return None
