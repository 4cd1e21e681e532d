"""What is computed for a request: expressions, vectors and the request's own, served and logged."""

import types

import numpy as np
import pytest

import feilun as fl
from feilun.clock import DAY, HOUR
from feilun.models.bundle import columns_of
from feilun.models.example_log import ExampleLog
from feilun.testing.records import make_record

NOW = 20_000 * DAY + 17 * HOUR  # in Shanghai it is tomorrow, 1 o'clock: a Saturday

user, item = fl.Entity("user_id", int), fl.Entity("item_id", int)
settings = fl.Settings(timezone="Asia/Shanghai")


class Click(fl.Event):
    user_id: fl.Field[int]
    item_id: fl.Field[int]
    bought: fl.Field[bool]
    look: fl.Field[fl.Vector | None] = fl.Field(default=None, dim=2)
    old: fl.Field[str | None] = fl.Field(default=None, deprecated=True)


class Person(fl.FeatureView, entity=user):
    clicks = fl.count(Click, window="7d")
    bought = fl.count(Click, window="7d", where=Click.bought == True)  # noqa: E712
    share = bought / clicks
    taste = fl.mean(Click.look, window="7d")


class Product(fl.FeatureView, entity=item):
    clicks = fl.count(Click, window="7d")
    bought = fl.count(Click, window="7d", where=Click.bought == True)  # noqa: E712
    share = bought / (clicks - 1)
    look = fl.last(Click.look)


class Habits(fl.FeatureView, entity=user):
    recent = fl.last(Click.item_id, n=3)
    tops = fl.top(Click.item_id, n=2)
    newest = fl.last(Click.item_id, default=-1)


class Ratios(fl.FeatureView, entity=user):
    recent = fl.last(Click.item_id, n=3)
    tops = fl.top(Click.item_id, n=2)
    newest = fl.last(Click.item_id, default=-1)
    half = newest / 2


@fl.model(
    features=[
        Person.taste,
        Product.share,
        Product.share * fl.request.weekday,
        fl.request.hour,
        fl.request.param("device", str),
        fl.request.param("depth", float),
        Product.look,
    ],
    label=fl.outcome(Click, within="1h"),
    metric="auc",
)
def ranker(data: fl.Dataset) -> object: ...


@fl.capability(
    "/api/rank", model=ranker, fallback=Product.share, reads=[Person.share, fl.request.hour]
)
def rank(
    scored: fl.Scored, user_id: int, item_id: list[int], device: str = "web", depth: float = 0.5
) -> list[dict[str, float]]:
    return [
        {"item_id": each, "score": score, "share": share, "hour": hour, "look": look}
        for each, score, share, hour, look in zip(
            scored.items,
            scored.scores.tolist(),
            scored[Person.share].tolist(),
            scored[fl.request.hour].tolist(),
            scored[Product.look].tolist(),
            strict=True,
        )
    ]


PROJECT = fl.compile(types.SimpleNamespace(**globals()), name="shop")  # type: ignore[arg-type]
MODEL = PROJECT.models["ranker"]
CLICKS = [
    # user, item, bought, look
    (1, 1, True, [1.0, 2.0]),
    (1, 1, False, None),
    (1, 1, True, [3.0, 4.0]),
    (1, 2, True, None),  # its only click: its share divides by zero
    (2, 3, False, [5.0, 6.0]),
    (2, 3, False, [7.0, 8.0]),
]


@pytest.fixture
def world(world_of):
    schema = PROJECT.events["click"].schema_id
    clicks = [
        make_record(f"c{n}", *click, None, time=NOW - HOUR + n, schema=schema)
        for n, click in enumerate(CLICKS)
    ]
    return world_of(PROJECT, clicks, now=NOW)


def release(world, **changes):
    world.release("ranker", categories={"request:device": ("app", "web")}, **changes)


def ask(world, **changes):
    body = {"user_id": 1, "item_id": [1, 2, 3], "device": "web", "depth": 3, **changes}
    return world.client.post("/api/rank", body)


def test_a_view_gives_what_is_computed_from_its_features(world):
    person, lone, stranger = world.run(
        world.client.get("/api/person", {"user_id": 1}),
        world.client.get("/api/product", {"item_id": 2}),
        world.client.get("/api/person", {"user_id": 9}),
    )
    assert person.json["features"] == {
        "clicks": 4, "bought": 3, "taste": [2.0, 3.0], "share": 0.75,
    }  # fmt: skip
    assert person.json["degraded"] == []
    assert lone.json["features"] == {"clicks": 1, "bought": 1, "look": None, "share": None}
    assert lone.json["degraded"] == ["missing:product:look", "missing:product:share"]
    assert stranger.json["features"]["share"] is None
    assert set(stranger.json["degraded"]) == {"missing:person:taste", "missing:person:share"}


@pytest.mark.parametrize("view", ["habits", "ratios"])
def test_a_default_is_flagged_and_a_list_of_nothing_is_empty(world, view):
    stranger, known = world.run(
        world.client.get(f"/api/{view}", {"user_id": 9}),
        world.client.get(f"/api/{view}", {"user_id": 2}),
    )
    nothing = {"recent": [], "tops": [], "newest": -1}
    computed = {"half": -0.5} if view == "ratios" else {}
    assert stranger.json["features"] == nothing | computed
    assert stranger.json["degraded"] == [f"missing:{view}:newest"]
    assert known.json["features"]["recent"] == [3, 3]
    assert known.json["degraded"] == []


@pytest.mark.parametrize("released", [False, True])
def test_a_text_without_a_code_is_not_missing(world, released):
    if released:
        release(world)
    (unheard,) = world.run(ask(world, device="watch"))
    assert unheard.json["degraded"] == ([] if released else ["no_model"])


def test_what_is_served_is_logged_and_computed_again_to_the_bit(world):
    release(world)
    (reply,) = world.run(ask(world))
    assert reply.status == 200, reply.json
    assert reply.json["version"] == 1
    (logged,) = world.predictions()
    assert logged.request == {"device": "web", "depth": 3.0}
    vectors = np.frombuffer(logged.vectors, np.float32).reshape(3, MODEL.width)
    nan = np.nan
    weekday = 5.0
    np.testing.assert_array_equal(
        vectors,
        np.array(
            [
                [2, 3, 1.0, weekday, 1, 1, 3, 3, 4],
                [2, 3, nan, nan, 1, 1, 3, nan, nan],
                [2, 3, 0.0, 0.0, 1, 1, 3, 7, 8],
            ],
            np.float32,
        ),
    )
    rows = reply.json["result"]
    assert [row["share"] for row in rows] == [0.75] * 3
    assert [row["hour"] for row in rows] == [1] * 3
    assert rows[0]["look"] == [3.0, 4.0]

    # Training computes the same columns from the log: as if another definition had served it.
    tick = make_record("tick", 9, 9, False, None, None, time=NOW + DAY,
                       schema=PROJECT.events["click"].schema_id)  # fmt: skip
    world.log.append([tick])
    examples = ExampleLog(PROJECT, MODEL)
    examples.advance(world.log, world.log.end())
    (kept,) = examples._ripe
    again = examples._recompute(world.log, [kept])[kept.offset]
    again[:, 5] = vectors[:, 5]  # the log has told "web" alone: its code is another one
    assert again.tobytes() == vectors.tobytes()
    assert examples.categories == {"request:device": ("web",)}


def test_without_a_model_an_expression_ranks(world):
    (reply,) = world.run(ask(world))
    assert reply.json["version"] is None
    assert {row["item_id"]: row["score"] for row in reply.json["result"]} == {1: 1, 2: 0, 3: 0}
    (logged,) = world.predictions()
    assert logged.columns == "recompute"  # nobody has given codes to the devices yet
    assert logged.request == {"device": "web", "depth": 3.0}


def test_the_defaults_of_the_request_are_what_was_asked(world):
    body = {"user_id": 1, "item_id": [1]}
    world.run(world.client.post("/api/rank", body))
    assert world.predictions()[0].request == {"device": "web", "depth": 0.5}


def test_a_model_of_a_parameter_that_is_gone_is_refused(world):
    columns = columns_of(MODEL, {"request:device": ("web",)})
    (device,) = [column for column in columns if getattr(column, "name", "") == "device"]
    renamed = type(device)("gadget", "str", "", ("web",))
    release(world, columns=(renamed,))
    (reply, status) = world.run(ask(world), world.client.get("/status"))
    assert reply.json["version"] is None
    assert "parameter gadget (str)" in status.body.decode()


def test_the_description_tells_types_formulas_and_what_is_deprecated(world):
    (reply,) = world.run(world.client.get("/openapi.json"))
    paths, schemas = reply.json["paths"], reply.json["components"]["schemas"]
    operation = paths["/api/product"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/view.product"}
    features = schemas["view.product"]["properties"]["features"]["properties"]
    assert features["share"] == {"type": ["number", "null"]}
    assert features["look"] == {
        "type": ["array", "null"], "items": {"type": "number"}, "minItems": 2, "maxItems": 2,
    }  # fmt: skip
    assert "`(product:bought / (product:clicks - 1.0))`" in operation["description"]
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert example["features"]["look"] == [0.5, 0.5]
    fields = schemas["event.click"]["properties"]["fields"]["properties"]
    assert fields["old"] == {"type": ["string", "null"], "deprecated": True}
    assert fields["look"]["maxItems"] == 2
