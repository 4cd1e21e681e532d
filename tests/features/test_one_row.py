"""One row read alone is the row that many would have given: matrix, flags and columns."""

import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feilun as fl
from feilun.clock import DAY, HOUR
from feilun.definitions.compiler import compile_project
from feilun.definitions.specs import ExpressionSpec, RequestSpec, features_of, inputs_of
from feilun.features.engine import Engine
from feilun.features.expressions import complete, request_columns
from feilun.features.one_row import OneRow, RowMatrix, is_plain
from feilun.features.online import OnlineReader
from feilun.features.vectors import assemble
from feilun.testing.fakes import MemoryLog, MemoryStore
from feilun.testing.records import make_record

NOW = 20_000 * DAY + 17 * HOUR
user = fl.Entity("user_id", int)
settings = fl.Settings(timezone="Asia/Shanghai")


class Click(fl.Event):
    user_id: fl.Field[int]
    price: fl.Field[float]
    amount: fl.Field[int]
    color: fl.Field[str]
    liked: fl.Field[bool]
    look: fl.Field[fl.Vector] = fl.Field(dim=2)


class Person(fl.FeatureView, entity=user):
    clicks = fl.count(Click, window="7d")
    spent = fl.sum(Click.amount, window="30d")
    mean = fl.mean(Click.price, window="7d")
    least = fl.min(Click.amount, window="7d", default=-1)
    color = fl.last(Click.color)
    shade = fl.last(Click.color, default="none")
    liked = fl.last(Click.liked)
    colors = fl.top(Click.color, window="30d", n=3)
    share = spent / clicks
    look = fl.last(Click.look)


class Shop(fl.FeatureView):
    clicks = fl.count(Click, window="1d")
    popular = fl.top(Click.user_id, window="30d", n=5)


@fl.model(
    features=[
        Person.clicks,
        Person.spent,
        Person.mean,
        Person.least,
        Person.color,
        Person.shade,
        Person.liked,
        Shop.clicks,
        fl.request.hour,
        fl.request.weekday,
        fl.request.param("price", float),
        fl.request.param("device", str),
        fl.request.param("again", bool),
    ],
    label=fl.outcome(Click, within="1h"),
    metric="auc",
)
def ranker(data):
    """Never trained here."""


PROJECT = compile_project(
    types.SimpleNamespace(
        **{n: v for n, v in globals().items() if not n.startswith("_")}, __name__="shop"
    )
)
MODEL = PROJECT.models["ranker"]
READS = tuple(
    PROJECT.feature(address)
    for address in ("person:colors", "person:share", "person:look", "shop:popular")
)
CATEGORIES = {
    "person:color": ("red", "blue"),
    "person:shade": ("blue", "none"),
    "request:device": ("phone",),
}


@pytest.fixture(scope="module")
def reader():
    log, store = MemoryLog(), MemoryStore()
    log.append(
        [
            make_record(
                f"{number}",
                who,
                price,
                amount,
                color,
                number % 2 == 0,
                [1.0, price / 1e300],
                time=NOW - age * HOUR,
                schema=PROJECT.events["click"].schema_id,
            )
            for number, (who, age, price, amount, color) in enumerate(
                [
                    (1, 1, 1e299, 2**60, "red"),
                    (1, 30, 0.1, 7, "green"),
                    (2, 24 * 20, 2.5, -3, "blue"),
                    (3, 5, 0.3, 2**53 + 1, "green"),
                ]
            )
        ]
    )
    engine = Engine(PROJECT, log, store)
    while engine.run_once():
        pass
    return OnlineReader(PROJECT, store)


SAID = st.fixed_dictionaries(
    {},
    optional={
        "price": st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1), st.none(), st.text()),
        "device": st.one_of(st.sampled_from(["phone", "desk"]), st.integers()),
        "again": st.one_of(st.booleans(), st.integers()),
    },
)


NUMBERS = tuple(
    column
    for column in MODEL.columns
    if column.dtype != "str" and not (isinstance(column, RequestSpec) and column.is_moment)
)
"""What is put together at once where nothing is missing."""


@given(
    model=st.sampled_from([MODEL.columns, NUMBERS, NUMBERS[1:], NUMBERS[1:2], NUMBERS[-2:]]),
    who=st.integers(1, 5),
    said=SAID,
    later=st.integers(0, 40 * DAY),
)
def test_one_row_is_what_many_give(reader, model, who, said, later):
    as_of = NOW + 1 + later
    wanted = (*model, *READS)
    features = features_of(wanted)
    asked = [part for part in inputs_of(wanted) if isinstance(part, RequestSpec)]
    with reader.snapshot() as snapshot:
        many = snapshot.read(features, {}, "user_id", [who], as_of)
        row = snapshot.read_row(features, {"user_id": who}, as_of)
    columns = complete(wanted, {**many, **request_columns(asked, [as_of], [said])})
    matrix, missing = assemble(model, columns, 1, CATEGORIES)

    known = {each.address: each for each in (*wanted, *inputs_of(wanted))}
    one = OneRow(known, row, as_of, said)
    found, absent = RowMatrix(model, CATEGORIES).of(row, as_of, said)
    assert found.tobytes() == matrix.tobytes()
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert absent == missing
    assert set(one) == set(columns)
    assert len(one) == len(columns)
    for address, column in columns.items():
        assert one[address].present.tolist() == column.present.tolist(), address
        np.testing.assert_array_equal(one[address].values, column.values)


def test_only_what_is_one_number_is_plain():
    assert is_plain(MODEL.columns)
    for each in READS:
        assert not is_plain([*MODEL.columns, each])
    assert any(isinstance(each, ExpressionSpec) for each in READS)
