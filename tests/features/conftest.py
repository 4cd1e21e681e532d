"""A small shop, written in specs, so that these tests need no compiler."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from feilun.clock import DAY, HOUR
from feilun.definitions.specs import (
    EntitySpec,
    EventSpec,
    FeatureSpec,
    FieldSpec,
    FoldSpec,
    Kind,
    Project,
    ViewSpec,
)
from feilun.records.record import Record
from feilun.testing.records import START, make_record

USER, ITEM, CITY = EntitySpec("user", "int"), EntitySpec("item", "int"), EntitySpec("city", "str")
BUY = EventSpec(
    "buy",
    1,
    (
        FieldSpec("user", "int"),
        FieldSpec("item", "int"),
        FieldSpec("city", "str", optional=True),
        FieldSpec("price", "float", optional=True),
    ),
    "user",
)
_KEYS = {"user": USER, "item": ITEM, "city": CITY}


@dataclass
class Shop:
    """Makes features, projects and records of one kind of event."""

    event: EventSpec = BUY
    start: int = START
    made: int = field(default=0)

    def feature(
        self,
        name: str,
        kind: Kind,
        keys: str = "",
        *,
        of: str | None = None,
        window: int | None = None,
        n: int = 0,
        default: Any = None,
    ) -> FeatureSpec:
        dtype = next((f.dtype for f in self.event.fields if f.name == of), "int")
        fold = FoldSpec(
            kind=kind,
            event=self.event.name,
            field=of,
            dtype=dtype,
            keys=tuple(_KEYS[key] for key in keys.split()),
            hop=HOUR if window else 0,
            timezone="UTC",
            n=n or 1 if kind == "last" else 1,
            retention=window,
        )
        return FeatureSpec("view", name, fold, window, 0, dtype, bool(n), n or 1, default, None)

    def project(self, *features: FeatureSpec, event: EventSpec | None = None) -> Project:
        views = {"view": ViewSpec("view", (), features)}
        event = event or self.event
        return Project("shop", "UTC", {}, {event.name: event}, views, {}, {}, {})

    def buy(
        self,
        user: int,
        item: int,
        city: str | None = None,
        price: float | None = None,
        *,
        time: int | None = None,
        **how: Any,
    ) -> Record:
        self.made += 1
        time = self.start + self.made if time is None else time
        return make_record(
            f"id-{self.made}",
            user,
            item,
            city,
            price,
            time=time,
            received=self.start + DAY,
            schema=self.event.schema_id,
            **how,
        )

    def longer(self, feature: FeatureSpec, window: int) -> FeatureSpec:
        fold = replace(feature.fold, retention=window)
        return replace(feature, name=f"{feature.name}_longer", fold=fold, window=window)


@pytest.fixture
def shop() -> Shop:
    return Shop()
