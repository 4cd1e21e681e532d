"""Texts that go through an encoder: columns of models, alike in serving, training and audit."""

import asyncio
import threading
import time
import types

import numpy as np
import pytest

import feilun as fl
from feilun.clock import DAY, HOUR
from feilun.definitions.compiler import compile_project
from feilun.errors import Unavailable
from feilun.features.encodings import MAX_CHARACTERS, Text
from feilun.models.bundle import read_bundle
from feilun.models.example_log import ExampleLog
from feilun.models.skew import Meanings, audit_between
from feilun.records.record import RECOMPUTE, SHADOW_SCHEMA
from feilun.serving.health import METRICS
from feilun.serving.metrics import Metrics
from feilun.serving.scoring import encoding
from feilun.serving.scoring.encoding import Encoding
from feilun.testing.encoder_fakes import HashEncoders
from feilun.testing.records import make_record

NOW = 20_000 * DAY + 17 * HOUR
DIM = 4
OLD, NEW = "a" * 64, "b" * 64
TITLES = {1: "red shoes", 2: "blue socks", 3: "green tea"}
user, item = fl.Entity("user_id", int), fl.Entity("item_id", int)
ticket = fl.Entity("ticket_id", str)


class Click(fl.Event):
    user_id: fl.Field[int]
    item_id: fl.Field[int]


class Listed(fl.Event):
    item_id: fl.Field[int]
    title: fl.Field[str]


class Solved(fl.Event):
    ticket_id: fl.Field[str]


class Person(fl.FeatureView, entity=user):
    clicks = fl.count(Click)


class Product(fl.FeatureView, entity=item):
    title = fl.last(Listed.title)


def define(digest):
    text = fl.encoder("bge", dim=DIM, digest=digest)
    likeness = fl.cosine(text(fl.request.param("query", str)), text(Product.title))

    @fl.model(
        features=[text(fl.request.param("sentence", str))],
        label=fl.outcome(Solved, within="30d"),
        metric="auc",
    )
    def intents(data: fl.Dataset) -> object: ...

    @fl.capability("/api/intent", model=intents, item=ticket)
    def intent(scored: fl.Scored, ticket_id: str, sentence: str) -> float:
        return float(scored.scores[0])

    @fl.model(
        features=[likeness, Person.clicks], label=fl.outcome(Click, within="1h"), metric="auc"
    )
    def searcher(data: fl.Dataset) -> object: ...

    @fl.capability("/api/search", model=searcher, fallback=likeness)
    def search(scored: fl.Scored, user_id: int, item_id: list[int], query: str) -> list[int]:
        return scored.top(3)

    found = {"user": user, "item": item, "ticket": ticket, "Listed": Listed}
    found |= {"intent": intent, "search": search}
    return compile_project(types.SimpleNamespace(**found), name="shop")


PROJECT, PROJECT_NEW = define(OLD), define(NEW)
LIKENESS = PROJECT.models["searcher"].columns[0].address


def ask_intent(world, sentence="where is it", ticket="t-1"):
    body = {"ticket_id": ticket, "sentence": sentence}
    return world.client.post("/api/intent", body)


def ask_search(world, query="shoes", user=7):
    body = {"user_id": user, "item_id": [1, 2, 3, 4], "query": query}
    return world.client.post("/api/search", body)


def likeness(world, query):
    a = world.encoders.vector(OLD, query).astype(float)
    found = []
    for title in TITLES.values():
        b = world.encoders.vector(OLD, title).astype(float)
        found.append(a @ b / np.sqrt((a @ a) * (b @ b)))
    return found


@pytest.fixture
def desk_of(world_of):
    def made(project):
        listed, clicked = (project.events[name].schema_id for name in ("listed", "click"))
        records = [
            make_record(f"l{number}", number, title, time=NOW - HOUR, schema=listed)
            for number, title in TITLES.items()
        ]
        records.append(make_record("c", 7, 1, time=NOW - HOUR, schema=clicked))
        return world_of(project, records, now=NOW, encoders=HashEncoders(DIM))

    return made


@pytest.fixture
def world(desk_of):
    return desk_of(PROJECT)


def matrix(prediction):
    found = np.frombuffer(prediction.vectors, np.float32)
    return found.reshape(len(prediction.items), -1)


def test_two_capabilities_use_one_encoder_as_columns_of_their_models(world):
    world.release("intents")
    world.release("searcher")
    intent, search = world.run(ask_intent(world), ask_search(world))
    assert intent.json["degraded"] == []
    vector = world.encoders.vector(OLD, "where is it")
    assert intent.json["result"] == pytest.approx(float(vector.sum()), rel=1e-6)
    first, second = world.predictions()
    np.testing.assert_array_equal(matrix(first), vector[None])
    assert first.request == {"sentence": "where is it"}
    assert first.encoders == second.encoders == {"bge": OLD}
    np.testing.assert_allclose(matrix(second)[:3, 0], likeness(world, "shoes"), rtol=1e-6)
    assert np.isnan(matrix(second)[3]).tolist() == [True, False]  # no title
    assert search.json["degraded"] == []  # three rows have one


def test_a_text_is_encoded_once_in_whatever_capability(world):
    world.release("searcher")
    metrics = world.client.get("/metrics", headers=world.key)
    *_, counted = world.run(
        ask_search(world), ask_search(world, user=8), ask_search(world, "socks"), metrics
    )
    calls = [text for _, texts in world.encoders.calls for text in texts]
    assert sorted(calls) == sorted(["shoes", "socks", *TITLES.values()])
    assert 'encoder="aaaaaaaaaaaa",result="encoded"} 5' in counted.body.decode()
    assert 'encoder="aaaaaaaaaaaa",result="remembered"} 7' in counted.body.decode()


def test_without_a_model_the_likeness_of_texts_ranks(world):
    (reply,) = world.run(ask_search(world, "shoes"))
    order = [*TITLES][int(np.argmax(likeness(world, "shoes")))]
    assert reply.json["result"][0] == order
    assert "no_model" in reply.json["degraded"]


def test_an_encoder_that_fails_costs_its_columns_and_no_answer(world):
    world.release("intents")
    world.release("searcher")
    world.encoders.error = Unavailable("It is not there.")
    status = world.client.get("/status", headers=world.key)
    asked = (ask_intent(world), ask_search(world), ask_intent(world, "other"), status)
    intent, search, again, status = world.run(*asked)
    assert [each.status for each in (intent, search, again)] == [200, 200, 200]
    assert set(intent.json["degraded"]) == {"encoder_failed", "missing:bge(request:sentence)"}
    assert f"missing:{LIKENESS}" in search.json["degraded"]
    assert search.json["result"] == [1, 2, 3]
    assert len(world.encoders.calls) == 1  # it is left alone for a moment
    assert any("It is not there" in problem for problem in status.json["problems"])
    assert {p.columns for p in world.predictions()} == {RECOMPUTE}


def test_an_encoder_that_is_slow_holds_up_nobody_beyond_the_deadline(world, monkeypatch):
    monkeypatch.setattr(encoding, "DEADLINE_SECONDS", 0.05)
    world.release("intents")
    may = threading.Event()
    world.encoders.before = lambda: may.wait(30)
    began = time.monotonic()

    async def later():
        reply = await ask_intent(world)
        may.set()
        return reply

    (reply,) = world.run(later())
    assert time.monotonic() - began < 5
    assert "encoder_failed" in reply.json["degraded"]


def test_without_personalisation_the_text_of_the_request_stays(world):
    world.release("searcher")
    body = {"user_id": 7, "item_id": [1, 2, 3, 4], "query": "shoes"}
    asked = world.client.ask("POST", "/api/search", {"personalised": "false"}, body)
    (reply,) = world.run(asked)
    assert reply.json["degraded"] == ["not_personalised"]
    (logged,) = world.predictions()
    np.testing.assert_allclose(matrix(logged)[:3, 0], likeness(world, "shoes"), rtol=1e-6)
    assert np.isnan(matrix(logged)[:, 1]).all()


def test_a_version_goes_on_with_the_encoder_that_it_was_trained_with(desk_of):
    world = desk_of(PROJECT_NEW)
    world.release("intents", PROJECT)
    digest = world.bundle("intents", PROJECT)
    assert read_bundle(world.root, digest)[0].columns[0].digest == OLD
    champions = world.app.routes["/api/intent"].methods["GET"].__self__._tools.champions

    async def promoted():
        world.release("intents", PROJECT_NEW, version=2)
        await asyncio.to_thread(champions.refresh)

    world.run(ask_intent(world), promoted(), ask_intent(world, ticket="t-2"))
    old, new = world.predictions()
    assert (old.encoders, new.encoders) == ({"bge": OLD}, {"bge": NEW})
    assert old.columns != new.columns
    np.testing.assert_array_equal(matrix(old)[0], world.encoders.vector(OLD, "where is it"))
    np.testing.assert_array_equal(matrix(new)[0], world.encoders.vector(NEW, "where is it"))


def test_a_shadow_has_texts_encoded_as_it_was_trained(desk_of):
    world = desk_of(PROJECT_NEW)
    world.release("intents", PROJECT)
    world.releases.append_rollout(
        "intents", "shadow", 2, world.bundle("intents", PROJECT_NEW), percent=0.0, salt="s",
        release=1, after=0, offset=0, at=NOW, by="test",
    )  # fmt: skip

    async def asked():
        await ask_intent(world)
        for _ in range(1_000):
            if world.predictions(SHADOW_SCHEMA):
                return
            await asyncio.sleep(0.005)

    world.run(asked())
    (shadow,) = world.predictions(SHADOW_SCHEMA)
    assert shadow.encoders == {"bge": NEW}
    np.testing.assert_array_equal(matrix(shadow)[0], world.encoders.vector(NEW, "where is it"))


def test_training_computes_what_was_not_served_as_it_should_have_been(world):
    world.release("searcher")
    world.run(ask_search(world))
    (served,) = world.predictions()
    later = PROJECT.events["click"].schema_id
    world.log.append([make_record("end", 9, 1, time=NOW + DAY, schema=later)])
    model = PROJECT.models["searcher"]
    examples = ExampleLog(PROJECT, model, world.encoders)
    examples.advance(world.log, world.log.end())
    (kept,) = examples._ripe
    again = examples._recompute(world.log, [kept])[kept.offset]
    assert again.tobytes() == served.vectors
    alone = ExampleLog(PROJECT, model)
    alone.advance(world.log, world.log.end())
    np.testing.assert_array_equal(alone.examples(world.log).x, matrix(served))  # as it was served
    with pytest.raises(Unavailable, match="encoder"):
        alone._recompute(world.log, [kept])


class Shaken(HashEncoders):
    """Gives vectors that differ by ``by`` of their largest number from what they should be."""

    def __init__(self, dim, by):
        super().__init__(dim)
        self.by = by

    def vector(self, digest, text):
        found = super().vector(digest, text)
        return found + np.float32(self.by) * np.abs(found).max()


@pytest.mark.parametrize(("by", "wrong"), [(0.0, 0), (1e-5, 0), (1e-2, 1)])
def test_the_audit_encodes_again_and_forgives_rounding_alone(world, by, wrong):
    world.release("intents")
    world.run(ask_intent(world))
    meanings = Meanings(PROJECT, world.releases, world.root, Shaken(DIM, by))
    found = audit_between(world.log, meanings, "intents", 0, world.log.end(), size=9)
    (feature,) = found.features.values()
    assert (found.requests, feature.mismatched) == (1, wrong)


def test_the_audit_leaves_out_what_was_served_without_its_vectors(world):
    world.release("intents")
    world.encoders.error = Unavailable("It is not there.")
    world.run(ask_intent(world))
    world.encoders.error = None
    meanings = Meanings(PROJECT, world.releases, world.root, world.encoders)
    found = audit_between(world.log, meanings, "intents", 0, world.log.end(), size=9)
    assert (found.requests, found.left_out) == (0, {"unbuilt": 1})


def test_an_endless_text_is_read_to_a_bound_everywhere(world):
    world.release("intents")
    endless = "x" * (MAX_CHARACTERS + 1)
    (reply,) = world.run(ask_intent(world, endless))
    assert reply.json["degraded"] == []
    assert world.encoders.calls == [(OLD, [endless[:MAX_CHARACTERS]])]


def of(*texts, digest=OLD):
    return [Text(digest, text) for text in texts]


class Tried:
    """An `Encoding` in an event loop, with encoders that answer when they may."""

    def __init__(self):
        self.encoders = HashEncoders(DIM)
        self.now = 0.0
        self.metrics = Metrics(METRICS, "w1")
        self.encoding = Encoding(self.encoders, self.metrics, lambda: self.now)

    def run(self, session):
        async def whole():
            try:
                return await session()
            finally:
                await self.encoding.stop()

        return asyncio.run(whole())


@pytest.fixture
def tried():
    return Tried()


async def begun(condition):
    for _ in range(5_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("It did not come to that.")


def test_what_is_asked_for_while_a_call_runs_is_one_call(tried, monkeypatch):
    monkeypatch.setattr(encoding, "FIRST_TEXTS", 64)
    may = threading.Event()
    tried.encoders.before = lambda: may.wait(30)

    async def session():
        ask = tried.encoding.encode
        first = asyncio.create_task(ask(of("first")))
        await begun(lambda: tried.encoders.calls)
        rest = [asyncio.create_task(ask(of(f"{n}", "same"))) for n in range(20)]
        await asyncio.sleep(0)
        may.set()
        return await asyncio.gather(first, *rest)

    first, *rest = tried.run(session)
    assert [len(texts) for _, texts in tried.encoders.calls] == [1, 21]
    assert set(first) == {*of("first")}
    for number, found in enumerate(rest):
        assert set(found) == {*of(f"{number}", "same")}
        for text, row in found.items():
            np.testing.assert_array_equal(row, tried.encoders.vector(OLD, text.text))


def sizes(tried):
    return [len(texts) for _, texts in tried.encoders.calls]


def test_calls_are_bounded_and_of_one_encoder(tried, monkeypatch):
    monkeypatch.setattr(encoding, "FIRST_TEXTS", 4)
    monkeypatch.setattr(encoding, "CALL_TEXTS", 4)

    async def session():
        return await tried.encoding.encode([*of(*"abcdef"), *of("a", digest=NEW)])

    assert len(tried.run(session)) == 7
    assert [(d, len(texts)) for d, texts in tried.encoders.calls] == [(OLD, 4), (OLD, 2), (NEW, 1)]


def test_calls_grow_while_the_encoder_is_quick_and_shrink_when_it_is_slow(tried):
    async def session():
        await tried.encoding.encode(of(*map(str, range(120))))
        assert sizes(tried) == [8, 16, 32, 64]
        tried.encoders.calls.clear()

        def slow():
            tried.now += 0.01 * len(tried.encoders.calls[-1][1])

        tried.encoders.before = slow
        await tried.encoding.encode(of(*map(str, range(1_000, 1_400))))
        assert sizes(tried)[:2] == [64, 32]
        assert set(sizes(tried)[1:]) == {32}  # 0.32 s: neither slow nor quick

    tried.run(session)


def test_more_texts_than_may_wait_get_no_vectors(tried, monkeypatch):
    monkeypatch.setattr(encoding, "WAITING_TEXTS", 3)

    async def session():
        return await tried.encoding.encode(of(*"abcde"))

    assert set(tried.run(session)) == {*of(*"abc")}


def test_a_failed_encoder_is_tried_again_after_a_pause_and_others_meanwhile(tried):
    tried.encoders.error = Unavailable("It is not there.")

    async def session():
        ask = tried.encoding.encode
        found = [await ask(of("a")), await ask(of("b"))]
        tried.encoders.error = None
        found += [await ask(of("c")), await ask(of("d", digest=NEW))]
        tried.now += encoding.PAUSE_SECONDS
        assert "It is not there" in tried.encoding.problem()
        found.append(await ask(of("e")))
        assert tried.encoding.problem() == ""
        return found

    found = tried.run(session)
    assert [len(each) for each in found] == [0, 0, 0, 1, 1]
    assert [texts for _, texts in tried.encoders.calls] == [["a"], ["d"], ["e"]]


def test_an_encoder_with_a_defect_is_a_failure_like_any_other(tried):
    def defect():
        raise ZeroDivisionError

    tried.encoders.before = defect

    async def session():
        return await tried.encoding.encode(of("a"))

    assert tried.run(session) == {}


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(tried, monkeypatch):
    monkeypatch.setattr(encoding, "CACHE_BYTES", 3 * 600)
    tried = Tried()

    async def session():
        for text in "abcabd":
            await tried.encoding.encode(of(text))
        calls = len(tried.encoders.calls)
        for text in "abd":
            await tried.encoding.encode(of(text))
        assert len(tried.encoders.calls) == calls
        await tried.encoding.encode(of("c"))
        assert len(tried.encoders.calls) == calls + 1

    tried.run(session)


def test_a_request_that_gives_up_does_not_take_the_vector_from_another(tried):
    may = threading.Event()
    tried.encoders.before = lambda: may.wait(30)

    async def session():
        one, two = (asyncio.create_task(tried.encoding.encode(of("a"))) for _ in range(2))
        await begun(lambda: tried.encoders.calls)
        one.cancel()
        await asyncio.sleep(0)
        may.set()
        return await two

    assert set(tried.run(session)) == {*of("a")}


def test_texts_that_nobody_waits_for_any_more_are_not_encoded(tried, monkeypatch):
    """A slow encoder is not late for everybody because it was late for some."""
    monkeypatch.setattr(encoding, "FIRST_TEXTS", 1)

    def slow():
        tried.now += 0.6

    tried.encoders.before = slow

    async def session():
        asked = [asyncio.create_task(tried.encoding.encode(of(each))) for each in "abcd"]
        found = await asyncio.gather(*asked)
        return [len(each) for each in found]

    # Two calls of 0.6 s: the second text's request has waited 1.2 s when it is there.
    assert tried.run(session) == [1, 1, 0, 0]
    assert [texts for _, texts in tried.encoders.calls] == [["a"], ["b"]]
