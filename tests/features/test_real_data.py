"""What real shops recorded gives the same value in every mode.

Lines are imported and collected into a log on disk, out of order and some of them twice; an engine
folds them in steps of any size, is restarted, and is given new definitions on the way. What was
read online at many moments must be what the past says of those moments, from the log and from the
lake, what a rebuild says, and (for a sample) what the oracle says.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest

from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
from feilun.aggregation import Column, encode_key, naive
from feilun.aggregation.frames import EventFrame
from feilun.clock import DAY, MINUTE, SECOND, ManualClock
from feilun.definitions.loading import load_project
from feilun.definitions.specs import FeatureSpec, Project, inputs_of
from feilun.demo.orders import instacart, instacart_file
from feilun.errors import MissingExtra
from feilun.events.collector import Collector
from feilun.events.importing import Importer, Mapped, import_rows
from feilun.features.archive import Archiver
from feilun.features.engine import Engine
from feilun.features.expressions import complete
from feilun.features.frames import FrameDecoder
from feilun.features.online import OnlineReader
from feilun.features.point_in_time import Spine, point_in_time
from feilun.features.read_plan import stand_in

pytestmark = pytest.mark.real_data

LATER = ("late", "late_trends")
"""Views that the project gains while it runs."""
ZONE = ZoneInfo("Europe/London")
FOLDER = Path(
    os.environ.get("FEILUN_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()

Line = dict[str, Any]


def declared() -> Project:
    return load_project(Path(__file__).with_name("real_shop.py"))


def retail(first: datetime | None = None, last: datetime | None = None) -> list[Line]:
    """Lines of an online shop: returns, adjustments, equal lines, and buyers who left no name."""
    path = FOLDER / "online_retail.parquet"
    if not path.is_file():
        pytest.skip("online_retail.parquet is not there; FEILUN_TEST_DATA names its folder")
    polars = pytest.importorskip("polars")
    table = polars.read_parquet(path).with_row_index("row")
    when = polars.col("InvoiceDate")
    if first and last:
        table = table.filter(when.is_between(first, last))
    return [
        {
            "id": f"{row['InvoiceNo']}-{row['row']}",
            "at": row["InvoiceDate"],
            "customer": row["CustomerID"],
            "product": row["StockCode"],
            "country": row["Country"],
            "quantity": row["Quantity"],
            "price": row["UnitPrice"],
            "amount": row["Quantity"] * row["UnitPrice"],
            "cancels": row["InvoiceNo"].startswith("C"),
            "description": row["Description"],
        }
        for row in table.to_dicts()
    ]


def orders(count: int | None = None) -> list[Line]:
    """Lines of real grocery orders, many at each moment; the place in the cart is the price."""
    polars = pytest.importorskip("polars")
    try:
        columns = polars.read_csv(instacart_file()).to_dict(as_series=False)
    except MissingExtra as missing:
        pytest.skip(str(missing))
    history = instacart(columns, ZONE.key)
    return [
        {
            "id": f"{order.id}-{place}",
            "at": datetime.fromtimestamp(order.time // SECOND, ZONE).replace(tzinfo=None),
            "customer": order.customer,
            "product": str(product),
            "country": "北京" if order.number % 2 else "",
            "quantity": 1 + order.number % 3,
            "price": float(place),
            "amount": place / 10,
            "cancels": False,
            "description": None,
        }
        for order in history.orders[:count]
        for place, product in enumerate(order.products, 1)
    ]


@dataclass
class Asked:
    """Everything that was asked of one moment, a row a product, and the answers by address.

    ``row`` is what the read of one key answered for the first row.
    """

    as_of: int
    known: int
    keys: dict[str, list[Any]]
    columns: dict[str, Column]
    row: Mapping[str, Any]


@dataclass
class Shop:
    """A log, a store and an engine on disk, and what was read from them."""

    folder: Path
    project: Project
    lines: list[Line]
    moments: int
    chance: random.Random
    largest_step: int = 3_000
    asked: list[Asked] = field(default_factory=list)
    saw_unbuilt: int = 0

    def __post_init__(self) -> None:
        views = {n: v for n, v in self.project.views.items() if n not in LATER}
        self.now = replace(self.project, views=views)
        self.open()

    def open(self) -> None:
        self.log = LmdbEventLog(self.folder / "log")
        self.store = LmdbOnlineStore(self.folder / "tiles")
        self.engine = Engine(self.now, self.log, self.store)
        self.reader = OnlineReader(self.now, self.store)

    def close(self) -> None:
        self.log.close()
        self.store.close()

    def run(self) -> None:
        """Feed the first third by import, the rest by the collector; read on the way."""
        third = len(self.lines) // 3
        pieces = [*self.parts(self.lines[:third]), None, *self.parts(self.lines[third:])]
        imported = True
        for number, piece in enumerate(pieces):
            if piece is None:
                imported = False
                continue
            (self.imports if imported else self.collects)(piece)
            if self.chance.random() < 0.2:
                self.close()
                self.open()
            if number == len(pieces) // 2:
                self.now = self.project
                self.engine = Engine(self.now, self.log, self.store)
                self.reader = OnlineReader(self.now, self.store)
                self.engine.run_once(1)
                self.ask(1)  # what is new is under construction
            self.fold(self.moments / len(pieces))
        while self.engine.run_once():
            pass
        self.ask(self.moments // 10 + 1)

    def parts(self, lines: Sequence[Line]) -> list[list[Line]]:
        """Cut lines into pieces of any size, as they arrive: some of them two days late."""
        late = {line["id"]: self.chance.random() < 0.05 for line in lines}
        arrival = {
            line["id"]: line["at"] + timedelta(minutes=self.chance.randrange(2_880 * late[key] + 9))
            for line in lines
            for key in [line["id"]]
        }
        ordered = sorted(lines, key=lambda line: arrival[line["id"]])
        pieces = []
        at = 0
        while at < len(ordered):
            size = self.chance.randrange(1, self.largest_step)
            pieces.append(ordered[at : at + size])
            at += size
        return pieces

    def imports(self, lines: Sequence[Line]) -> None:
        now = micros(max(line["at"] for line in lines))
        done = import_rows(self.importer(self.project), lines, self.log, now)
        assert (done.accepted, done.bad) == (len(lines), 0)
        if self.chance.random() < 0.3:
            again = import_rows(self.importer(self.project), lines, self.log, 2**51)
            assert (again.accepted, again.duplicates) == (0, len(lines))

    def importer(self, project: Project) -> Importer:
        return Importer(project, "line", "books", Mapped("at", available=DAY, id="id"))

    def collects(self, lines: Sequence[Line]) -> None:
        collector = Collector(
            self.project, self.log, ManualClock(micros(lines[-1]["at"])), mode="request"
        )
        for start in range(0, len(lines), 500):
            body = msgspec.json.encode([to_event(line) for line in lines[start : start + 500]])
            answers = collector.accept("till", body)
            assert {answer.status for answer in answers} == {"accepted"}
            if self.chance.random() < 0.3:
                again = collector.accept("till", body)
                for first, second in zip(answers, again, strict=True):
                    # A body of many days closes the first of them.
                    assert second.status in ("duplicate", "late")
                    assert (second.offset == first.offset) == (second.status == "duplicate")

    def fold(self, moments: float) -> None:
        """Fold what came in steps of any size, and read between them."""
        steps = 0
        while self.engine.run_once(self.chance.randrange(1, self.largest_step)):
            steps += 1
            if steps <= 2 * moments and self.chance.random() < 0.7:
                self.ask(math.ceil(moments / 4))

    def ask(self, times: int) -> None:
        for _ in range(times):
            line = self.chance.choice(self.lines)
            others = self.chance.sample(self.lines, min(7, len(self.lines)))
            same = [o for o in self.lines if o["customer"] == line["customer"]][:200]
            others += self.chance.sample(same, min(4, len(same)))
            products = [line["product"], *(other["product"] for other in others), "never sold"]
            self.ask_about(line["customer"] or 0, line["country"], products)

    def ask_about(self, customer: int, country: str, products: list[str]) -> None:
        features = [f for view in self.now.views.values() for f in view.features]
        keys = {"customer": customer, "country": country}
        with self.reader.snapshot() as snapshot:
            as_of = snapshot.mark.time + self.chance.choice([1, 30 * MINUTE, DAY + 1])
            columns = snapshot.read(features, keys, "product", products, as_of)
            row = snapshot.read_row(features, {**keys, "product": products[0]}, as_of)
            unbuilt = set(snapshot.unbuilt(features))
            known = snapshot.mark.offset
        self.saw_unbuilt += bool(unbuilt)
        assert not any(columns.pop(address).present.any() for address in unbuilt)
        assert unbuilt <= set(row.missing)
        values = {address: row.values[address] for address in columns}
        assert {a for a in values if a in row.missing} == {
            address for address, column in columns.items() if not column.present[0]
        }
        size = len(products)
        spine = {"customer": [customer] * size, "country": [country] * size, "product": products}
        wanted = [
            each
            for view in self.now.views.values()
            for each in view.expressions
            if all(part.address in columns for part in inputs_of((each,)))
        ]
        self.asked.append(Asked(as_of, known, spine, complete(wanted, columns), values))


def to_event(line: Line) -> dict[str, Any]:
    fields = {name: value for name, value in line.items() if name not in ("id", "at")}
    known = {name: value for name, value in fields.items() if value is not None}
    return {"event": "line", "id": line["id"], "time": micros(line["at"]), "fields": known}


def micros(local: datetime) -> int:
    return int(local.replace(tzinfo=ZONE).timestamp()) * SECOND


class Events:
    """The events of a log, found by key."""

    def __init__(self, frame: EventFrame) -> None:
        self.frame = frame
        self._found: dict[tuple[str, ...], dict[tuple[Any, ...], list[int]]] = {}

    def of(self, names: tuple[str, ...], key: tuple[Any, ...]) -> EventFrame:
        """The events that have a key; those that lack a part of it are nobody's."""
        if names not in self._found:
            places: dict[tuple[Any, ...], list[int]] = {}
            columns = [self.frame.columns[name] for name in names]
            present = np.logical_and.reduce([np.ones(len(self.frame), bool),
                                             *(column.present for column in columns)])  # fmt: skip
            chosen = np.flatnonzero(present)
            values = zip(*(column.values[chosen].tolist() for column in columns), strict=True)
            for place, own in zip(chosen.tolist(), values if names else [()] * len(chosen),
                                  strict=True):  # fmt: skip
                places.setdefault(own, []).append(place)
            self._found[names] = places
        return self.frame.take(np.array(self._found[names].get(key, []), np.int64))


class Truth:
    """How near to each other two computations of a feature must come."""

    def __init__(self, project: Project, events: Events) -> None:
        self.project = project
        self.events = events

    @cached_property
    def specs(self) -> Mapping[str, FeatureSpec]:
        return {f.address: f for v in self.project.views.values() for f in v.features}

    def bound(self, address: str, keys: Mapping[str, Any]) -> float:
        """How far sums of floats may differ; 0 where every bit counts."""
        feature = self.specs.get(address)
        if feature is None:  # arithmetic over one sum of floats, divided by a count
            numbers = self.values(("customer",), "amount", keys)
            return 1e-9 * float(np.abs(numbers).sum())
        fold = feature.fold
        if fold.kind not in ("sum", "mean", "var", "std", "decayed", "custom"):
            return 0.0
        if fold.kind == "sum" and fold.dtype != "float":
            return 0.0
        numbers = self.values(tuple(e.name for e in fold.keys), fold.field, keys)
        size = float(np.abs(numbers).sum())
        return {
            "var": 2e-9 * float((numbers * numbers).sum()),
            "std": 1e-9 * math.sqrt(float((numbers * numbers).sum())),
        }.get(fold.kind, 1e-9 * size)

    def values(self, names: tuple[str, ...], name: str | None, keys: Mapping[str, Any]) -> Any:
        events = self.events.of(names, tuple(keys[name] for name in names))
        if name is None:
            return np.ones(len(events))
        column = events.columns[name]
        return column.values[column.present].astype(np.float64)

    def check(self, asked: Asked, wanted: Mapping[str, Column], start: int) -> None:
        """Compare what was read with rows of ``wanted`` from ``start`` on."""
        for address, column in asked.columns.items():
            for at in range(len(column.present)):
                expected = value_of(wanted[address], start + at)
                self.check_one(asked, address, at, value_of(column, at), expected)
        for address, found in asked.row.items():
            if not wanted[address].present[start]:
                assert found == stand_in(self.specs[address]), address
            else:
                self.check_one(asked, address, 0, found, value_of(wanted[address], start))

    def check_one(self, asked: Asked, address: str, at: int, found: Any, expected: Any) -> None:
        if found == expected:
            return
        keys = {name: values[at] for name, values in asked.keys.items()}
        told = (f"{address} of {keys} at {asked.as_of}, {asked.known}", found, expected)
        assert found is not None, told
        assert expected is not None, told
        bound = self.bound(address, keys)
        assert bound, told
        assert abs(found - expected) <= bound, told

    def check_oracle(self, asked: Asked, address: str, at: int) -> bool:
        """Compare one value with the oracle's; say whether the oracle has one that is exact."""
        feature = self.specs[address]
        keys = {name: values[at] for name, values in asked.keys.items()}
        names = tuple(entity.name for entity in feature.fold.keys)
        own = tuple(keys[name] for name in names)
        events = self.events.of(names, own)
        kind = feature.fold.kind
        if len(events) > 30_000:
            return False  # it is written in plain loops
        if kind == "top" and len(set(events.columns[feature.fold.field].values.tolist())) > 512:
            return False  # beyond the bound of a tile
        key = encode_key(feature.fold.keys, own)
        expected = naive(feature, events, key, asked.as_of, asked.known)
        column = asked.columns[address]
        found = value_of(column, at if len(column.present) > 1 else 0)
        if kind == "quantile" and found is not None:
            assert abs(found - expected) <= abs(expected) / 128, (address, keys, found, expected)
        else:
            self.check_one(asked, address, at, found, expected)
        return True


def value_of(column: Column, at: int) -> Any:
    return column.values[at : at + 1].tolist()[0] if column.present[at] else None


def joined(frames: Iterable[EventFrame]) -> EventFrame:
    parts = list(frames)
    return EventFrame(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("time", "tie", "known")),
        {
            name: Column(
                np.concatenate([p.columns[name].values for p in parts]),
                np.concatenate([p.columns[name].present for p in parts]),
            )
            for name in parts[0].columns
        },
    )


def past_of(shop: Shop, frame: EventFrame) -> dict[str, Column]:
    """What the past says of everything that was asked."""
    features = [f for view in shop.project.views.values() for f in view.features]
    keys = {
        name: [value for asked in shop.asked for value in asked.keys[name]]
        for name in ("customer", "country", "product")
    }
    sizes = [len(asked.keys["product"]) for asked in shop.asked]
    spine = Spine(
        keys,
        np.repeat(np.array([asked.as_of for asked in shop.asked], np.int64), sizes),
        np.repeat(np.array([asked.known for asked in shop.asked], np.int64), sizes),
    )
    columns = point_in_time(shop.project, features, spine, {"line": frame})
    wanted = [e for view in shop.project.views.values() for e in view.expressions]
    return complete(wanted, columns)


def check_everything(shop: Shop, oracles: int) -> None:
    decoder = FrameDecoder(shop.project, shop.log.schemas())
    frame = decoder.decode_batches(shop.log.read_batches(0, 10**7)).frames["line"]
    assert len(frame) == len(shop.lines)
    truth = Truth(shop.project, Events(frame))
    sources = [frame, *from_lake(shop)]
    for source in sources:
        wanted = past_of(shop, source)
        start = 0
        for asked in shop.asked:
            truth.check(asked, wanted, start)
            start += len(asked.keys["product"])
    check_rebuild(shop, truth)
    check_missing_keys(shop, frame)
    addresses = list(truth.specs)
    exact = 0
    for number in range(oracles):
        asked = shop.asked[-1] if number % 4 == 0 else shop.chance.choice(shop.asked)
        address = addresses[number % len(addresses)]
        if address in asked.columns:
            at = shop.chance.randrange(len(asked.keys["product"]))
            exact += truth.check_oracle(asked, address, at)
    assert exact > oracles / 2


def from_lake(shop: Shop) -> list[EventFrame]:
    """The same events from the lake; nothing where it is not installed."""
    try:
        from feilun.adapters.iceberg import IcebergLake
    except ImportError:
        return []
    with closing(IcebergLake(shop.folder / "lake")) as lake:
        Archiver(shop.log, lake, ManualClock(0)).run_all()
        return [joined(lake.frames(shop.project.events["line"]))]


def check_rebuild(shop: Shop, truth: Truth) -> None:
    """Tiles made anew by one fold give what the last read gave."""
    last = shop.asked[-1]
    with closing(LmdbOnlineStore(shop.folder / "rebuilt")) as store:
        assert Engine(shop.project, shop.log, store).rebuild() == shop.log.end()
        features = list(truth.specs.values())
        keys = {name: last.keys[name][0] for name in ("customer", "country")}
        with OnlineReader(shop.project, store).snapshot() as snapshot:
            assert snapshot.mark.offset == last.known
            columns = snapshot.read(features, keys, "product", last.keys["product"], last.as_of)
    wanted = [e for view in shop.project.views.values() for e in view.expressions]
    again = Asked(last.as_of, last.known, last.keys, complete(wanted, columns), {})
    for address, column in again.columns.items():
        assert len(column.present) == len(last.columns[address].present)
    truth.check(again, last.columns, 0)


def check_missing_keys(shop: Shop, frame: EventFrame) -> None:
    """An event without its key is nobody's, and counts for every key that it has."""
    there = frame.columns["customer"].present
    customers = sorted(set(frame.columns["customer"].values[there].tolist()))
    products = sorted(set(frame.columns["product"].values.tolist()))
    lines = shop.project.feature("customer:lines")
    unnamed = shop.project.feature("product:unnamed")
    with shop.reader.snapshot() as snapshot:
        as_of = snapshot.mark.time + 1
        of_customers = snapshot.read([lines], {}, "customer", customers, as_of)
        of_products = snapshot.read([unnamed], {}, "product", products, as_of)
    assert int(of_customers[lines.address].values.sum()) == int(there.sum())
    assert int(of_products[unnamed.address].values.sum()) == int((~there).sum())


def replayed(folder: Path, project: Project, lines: list[Line], moments: int, step: int) -> Shop:
    lines.sort(key=lambda line: line["at"])
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    shop = Shop(folder, project, lines, moments, random.Random(seed), step)
    shop.run()
    assert shop.saw_unbuilt, "no read met a feature under construction"
    assert len(shop.asked) >= moments / 8
    return shop


def test_a_week_of_a_shop_in_which_summer_time_begins(tmp_path):
    lines = retail(datetime(2011, 3, 25), datetime(2011, 4, 1))
    project = declared()
    shop = replayed(tmp_path, project, lines, 25, 1_200)
    check_everything(shop, oracles=120)
    shop.close()


def test_the_first_orders_of_many_customers(tmp_path):
    shop = replayed(tmp_path, declared(), orders(500), 15, 700)
    check_everything(shop, oracles=80)
    shop.close()


@pytest.mark.soak
def test_a_year_of_a_shop(tmp_path):
    project = declared()
    shop = replayed(tmp_path, project, retail(), 300, 40_000)
    check_everything(shop, oracles=600)
    shop.close()


@pytest.mark.soak
def test_all_orders(tmp_path):
    shop = replayed(tmp_path, declared(), orders(), 200, 20_000)
    check_everything(shop, oracles=500)
    shop.close()


def test_a_line_of_nobody_is_kept_aside_where_a_key_is_asked_for(tmp_path):
    """What has no customer is told, not dropped, and counts nowhere."""
    lines = retail(datetime(2011, 8, 12), datetime(2011, 8, 12, 16))
    nobody = [line for line in lines if line["customer"] is None]
    assert any(line["price"] < 0 for line in nobody)
    project = declared()
    event = project.events["line"]
    fields = tuple(replace(f, optional=f.optional and f.name != "customer") for f in event.fields)
    project = replace(project, events={"line": replace(event, fields=fields)})
    with closing(LmdbEventLog(tmp_path / "log")) as log:
        importer = Importer(project, "line", "books", Mapped("at", id="id"))
        done = import_rows(importer, lines, log, micros(lines[-1]["at"]))
        assert (done.accepted, done.bad) == (len(lines) - len(nobody), len(nobody))
        assert len(log.bad(0, 10_000)) == len(nobody)
        assert all("customer" in event.reason for event in log.bad(0, 10_000))
