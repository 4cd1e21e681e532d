"""A small shop over memory, and a tiny ASGI client that calls it as a server would."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
import numpy as np
import pytest

from feilun.adapters.encoder import ClassifierLoader
from feilun.clock import DAY, HOUR, ManualClock
from feilun.definitions.specs import (
    CapabilitySpec,
    EntitySpec,
    EventSpec,
    FeatureSpec,
    FieldSpec,
    FlywheelSpec,
    FoldSpec,
    GateSpec,
    ModelSpec,
    OutcomeSpec,
    ParameterSpec,
    Project,
    TriggerSpec,
    ViewSpec,
)
from feilun.errors import InputError, ModelError
from feilun.features.engine import Engine
from feilun.models.bundle import Bundle, columns_of, scorer_file, write_bundle
from feilun.ports.encoder import NO_ENCODERS
from feilun.records.codec import decode_prediction
from feilun.records.record import PREDICTION_SCHEMA, Record
from feilun.serving.access.keys import make_key, make_token
from feilun.serving.access.quota import OwnQuota
from feilun.serving.scoring.guarded_scorer import WARM_ROWS
from feilun.serving.worker import GatewayParts, make_app
from feilun.testing.fakes import MemoryLog, MemoryStore
from feilun.testing.platform_fakes import InMemoryReleases, InMemorySkew, InMemoryTurns
from feilun.testing.team_fakes import InMemoryTeams


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]


class Client:
    """Sends one request at a time into an ASGI application."""

    def __init__(self, app):
        self.app = app

    async def ask(
        self, method, path, query=b"", body=b"", headers=(), chunks=None, host="localhost"
    ):
        if not isinstance(query, bytes):
            query = urlencode(query, doseq=True).encode()
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        sent = [(b"host", host.encode())] if host is not None else []
        if method == "POST":
            sent.append((b"content-type", b"application/json"))
        given = {name for name, _ in headers}
        sent = [pair for pair in sent if pair[0] not in given] + list(headers)
        parts = chunks if chunks is not None else [body]
        messages = [
            {"type": "http.request", "body": part, "more_body": at < len(parts) - 1}
            for at, part in enumerate(parts)
        ]
        replies = []

        async def receive():
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message):
            replies.append(message)

        scope = {"type": "http", "method": method, "path": path, "query_string": query,
                 "headers": sent}  # fmt: skip
        await self.app(scope, receive, send)
        start, *bodies = replies
        names = {name.decode(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], names, b"".join(part["body"] for part in bodies))

    async def get(self, path, query=b"", **options):
        return await self.ask("GET", path, query, **options)

    async def post(self, path, body, **options):
        return await self.ask("POST", path, body=body, **options)


@pytest.fixture
def client_of():
    return Client


NOW = 20_000 * DAY
SALT = "9f2c"
"""Of every rollout here."""

USER = EntitySpec("user_id", "int")
ITEM = EntitySpec("item_id", "int")


def _feature(view, name, fold, **changes):
    fields = {"window": None, "calendar": 0, "dtype": "int", "is_list": False, "n": 1,
              "default": None, "ttl": None}  # fmt: skip
    return FeatureSpec(view, name, fold, **{**fields, **changes})


def _fold(kind, field, *keys, hop=DAY, n=1):
    return FoldSpec(kind, "order", field, "int", keys, hop, "UTC", n=n)


ORDERS = _feature("user_profile", "orders", _fold("count", None, USER), window=30 * DAY)
RECENT = _feature("user_profile", "recent_items", _fold("last", "item_id", USER, hop=0, n=20),
                  is_list=True, n=20)  # fmt: skip
PLACE = _feature("user_profile", "last_place", _fold("last", "place", USER, hop=0))
POPULAR = _feature("trends", "popular", _fold("top", "item_id", n=50), is_list=True, n=50,
                   window=30 * DAY)  # fmt: skip
HEAT = _feature("item_profile", "heat", _fold("count", None, ITEM), window=7 * DAY)
BOUGHT = _feature("user_item", "bought", _fold("count", None, USER, ITEM), window=30 * DAY)
GAP = _feature("user_item", "last_place", _fold("last", "place", USER, ITEM, hop=0))


def recommend(scored, user_id, k=10):
    """Recommend items."""
    return scored.top(k)


def inventory(scored, item_id):
    return scored.scores.tolist()


def broken(scored, user_id):
    raise RuntimeError("secret detail")


def fussy(scored, user_id):
    raise InputError("This user is not served.", "Ask for another.")


def odd(scored, user_id):
    return object()


def _capability(name, function, **changes):
    fields = {
        "name": name,
        "path": f"/api/{name}",
        "model": "ranker",
        "item": "item_id",
        "candidates": (RECENT, POPULAR),
        "fallback": POPULAR,
        "reads": (),
        "parameters": (ParameterSpec("user_id", int, True, None),),
        "returns": list[int],
        "function": function,
        "description": function.__doc__ or "",
    }
    return CapabilitySpec(**{**fields, **changes})


def _model(name, *columns):
    return ModelSpec(name, columns, OutcomeSpec("order", DAY, "happened"), "auc", print, "c")


def make_project():
    views = {
        "user_profile": ViewSpec("user_profile", (USER,), (ORDERS, RECENT, PLACE), "growth"),
        "item_profile": ViewSpec("item_profile", (ITEM,), (HEAT,)),
        "user_item": ViewSpec("user_item", (USER, ITEM), (BOUGHT, GAP)),
        "trends": ViewSpec("trends", (), (POPULAR,), description="What <b>everybody</b> buys."),
    }
    ranked = ParameterSpec("k", int, False, 10)
    given = ParameterSpec("item_id", list[int], True, None)
    user = ParameterSpec("user_id", int, True, None)
    capabilities = [
        _capability("recommend", recommend, parameters=(user, ranked), reads=(GAP,)),
        _capability("strict", recommend, parameters=(user, ranked), fallback=None),
        _capability("inventory", inventory, model="demand", candidates=(), fallback=HEAT,
                    parameters=(given,), returns=list[float]),
        _capability("broken", broken),
        _capability("fussy", fussy),
        _capability("odd", odd),
    ]  # fmt: skip
    fields = tuple(FieldSpec(name, "int") for name in ("user_id", "item_id", "place"))
    return Project(
        name="shop",
        timezone="UTC",
        entities={"user_id": USER, "item_id": ITEM},
        events={"order": EventSpec("order", 1, fields, "user_id", description="An order line.")},
        views=views,
        models={"ranker": _model("ranker", ORDERS, HEAT, BOUGHT), "demand": _model("demand", HEAT)},
        capabilities={capability.name: capability for capability in capabilities},
        flywheels={"ranker": FlywheelSpec("ranker", (TriggerSpec(10, None),), GateSpec(0.95, 0))},
    )


def order_record(spec, number, user, item, place, moment):
    return Record(
        schema=spec.schema_id, source="shop", id=f"o{number}", time=moment, received=moment,
        client_time=moment, available=moment, subject=f"user_id={user}", digest=b"d" * 16,
        body=msgspec.msgpack.encode((user, item, place)),
    )  # fmt: skip


class Linear:
    """A scorer: the weighted sum of the columns, NaN as 0; and ways to misbehave."""

    def __init__(self, weights, fault=""):
        self.weights = np.array(weights, np.float64)
        self.fault = fault

    def score(self, matrix):
        if len(matrix) == WARM_ROWS and not self.fault.endswith("!"):
            return np.zeros(len(matrix))  # it behaves while it is warmed
        if self.fault.startswith("raise"):
            raise RuntimeError("secret detail")
        if self.fault.startswith("hang"):
            time.sleep(60)
        if self.fault.startswith("slow"):
            time.sleep(0.06)
        scores = np.nan_to_num(matrix).astype(np.float64) @ self.weights
        if self.fault.startswith("nan"):
            scores[-1:] = np.nan
        return scores[:, None] if self.fault.startswith("shape") else scores


class LinearLoader:
    """Loads ``Linear`` from JSON, in the place of LightGBM."""

    format = "lightgbm-text/1"
    waits = False

    def load(self, data, columns):
        weights, fault = json.loads(data)
        if len(weights) != columns:
            raise ModelError("Another number of columns.")
        return Linear(weights, fault)


class Shop:
    """A gateway over memory: its parts, and a client to it."""

    def __init__(self, root, clock_mode="wall", keys_required=False, project=None):
        self.project = project or make_project()
        self.log = MemoryLog()
        self.store = MemoryStore()
        self.history = MemoryLog()  # events apart, so that the gateway's log holds predictions
        self.engine = Engine(self.project, self.history, self.store)
        self.turns = InMemoryTurns()
        self.releases = InMemoryReleases(self.turns)
        self.skew = InMemorySkew()
        self.teams = InMemoryTeams()
        self.token = make_token()
        self.clock = ManualClock(NOW)
        self.root = root
        self.parts = GatewayParts(
            project=self.project,
            log=self.log,
            store=self.store,
            releases=self.releases,
            turns=self.turns,
            skew=self.skew,
            teams=self.teams,
            loaders={LinearLoader.format: LinearLoader()},
            bundles=root,
            clock=self.clock,
            clock_mode=clock_mode,
            worker="w1",
            token=self.token,
            keys_required=keys_required,
            quota=OwnQuota(),
        )
        orders = [(user, item, item * 10, NOW - HOUR * (item + 1))
                  for user in (1, 2) for item in range(1, 6) for _ in range(item)]  # fmt: skip
        self.fold(orders)
        self.app = make_app(self.parts)
        self.client = Client(self.app)
        path = next(iter(self.project.capabilities.values())).path
        route = self.app.routes[path].methods["GET"].__self__
        self.champions, self.moments = route._tools.champions, route._tools.moments
        self.shadows = route._tools.shadows

    def fold(self, orders):
        """Put (user, item, place, time) rows into the features, as the engine would."""
        spec, first = self.project.events["order"], self.history.end()
        self.history.append(
            [order_record(spec, first + at, *order) for at, order in enumerate(orders)]
        )
        while self.engine.run_once(1_000):
            pass

    def train(self, weights=(0, 0, 1), fault="", model="ranker", version=None, **changes):
        """Write a bundle of a linear model and put it in production."""
        digest = self.bundle(weights, fault, model, trained={"version": version}, **changes)
        version = version or len(self.releases.entries(model)) + 1
        return self.release(model, version, digest)

    def bundle(self, weights=(0, 0, 1), fault="", model="ranker", **changes):
        """Write a bundle of a linear model; return its digest."""
        data = json.dumps([list(weights), fault]).encode()
        spec = self.project.models[model]
        fields = {
            "model": model, "columns": columns_of(spec, {}), "item": "item_id",
            "scorer": scorer_file(data), "metric": "auc", "trained": {},
            "definition_digest": spec.definition_digest,
        }  # fmt: skip
        return write_bundle(self.root, Bundle(**{**fields, **changes}), data)

    def roll_out(self, stage, percent=0.0, *, digest=None, version=9, model="ranker"):
        """Begin a rollout, or take it to another stage."""
        release, known = self.releases.current(model), self.releases.rollout(model)
        return self.releases.append_rollout(
            model, stage, version, digest or known.bundle, percent=percent, salt=SALT,
            release=release.sequence if release else 0, after=known.sequence if known else 0,
            offset=self.log.end(), at=self.clock.now(), by="test",
        )  # fmt: skip

    def shadow_calls(self, *results, version=9):
        """Return how many shadow calls of a version ended so."""
        lines = self.shadows._metrics.expose().splitlines()
        return sum(
            int(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("feilun_shadow_total{") and f'version="{version}"' in line
            and (not results or any(f'result="{result}"' in line for result in results))
        )  # fmt: skip

    def release(self, model, version, digest, action="promote"):
        return self.releases.append(
            model, version, digest, action=action, offset=self.log.end(), at=self.clock.now(),
            turn=None, by="test",
        )  # fmt: skip

    def add_team(self, name, *scopes, quota=1_000.0, expires=None):
        """Add a team; return its key."""
        made = make_key(expires)
        self.teams.add(name, scopes, quota, made.stored, at=self.clock.now(), by="test")
        return made.text

    def predictions(self):
        return [decode_prediction(record.body) for _, record in self.log.read(0)]

    def run(self, *requests, shadows=0):
        """Start the gateway, answer the requests one after the other, and stop it.

        First wait until so many shadow calls are through.
        """

        async def session():
            await self.app.start()
            try:
                replies = [await request for request in requests]
                async with asyncio.timeout(5):
                    while self.shadow_calls() < shadows:
                        await asyncio.sleep(0.005)
                return replies
            finally:
                await self.app.stop()

        replies = asyncio.run(session())
        return replies[0] if len(replies) == 1 else replies


class Sum:
    """A scorer: the sum of the columns, NaN as 0."""

    def __init__(self, columns):
        self.columns = columns

    def score(self, matrix):
        assert matrix.shape[1] == self.columns
        return np.nan_to_num(matrix).astype(np.float64).sum(axis=1)


class SumLoader:
    format = "lightgbm-text/1"
    waits = False

    def load(self, data, columns):
        return Sum(columns)


class World:
    """A gateway over memory for a project of a test's own, whose models add their columns up."""

    def __init__(self, root, project, records, now, encoders=NO_ENCODERS):
        self.project, self.root, self.now, self.encoders = project, root, now, encoders
        self.log, store = MemoryLog(), MemoryStore()
        self.log.append(records)
        self.first = self.log.end()
        engine = Engine(project, self.log, store)
        while engine.run_once(1_000):
            pass
        turns, token = InMemoryTurns(), make_token()
        self.key = [(b"authorization", f"Bearer {token}".encode())]
        self.releases = InMemoryReleases(turns)
        self.app = make_app(
            GatewayParts(
                project=project,
                log=self.log,
                store=store,
                releases=self.releases,
                turns=turns,
                skew=InMemorySkew(),
                teams=InMemoryTeams(),
                loaders={each.format: each for each in (SumLoader(), ClassifierLoader())},
                bundles=root,
                clock=ManualClock(now),
                clock_mode="wall",
                worker="w1",
                token=token,
                keys_required=False,
                quota=OwnQuota(),
                encoders=encoders,
            )
        )
        self.client = Client(self.app)

    def bundle(self, model, project=None, categories=None, data=b"[]", **changes):
        """Write a bundle of a model as a project, this one or another, has it."""
        project = project or self.project
        spec = project.models[model]
        (item,) = {c.item for c in project.capabilities.values() if c.model == model}
        fields = {
            "model": model, "columns": columns_of(spec, categories or {}), "item": item,
            "scorer": scorer_file(data), "metric": "auc", "trained": {},
            "definition_digest": spec.definition_digest,
        }  # fmt: skip
        return write_bundle(self.root, Bundle(**{**fields, **changes}), data)

    def release(self, model, project=None, version=1, **changes):
        self.releases.append(
            model, version, self.bundle(model, project, **changes), action="promote", offset=0,
            at=self.now, turn=None, by="test",
        )  # fmt: skip

    def run(self, *requests):
        async def session():
            await self.app.start()
            try:
                return [await request for request in requests]
            finally:
                await self.app.stop()

        return asyncio.run(session())

    def logged(self):
        """Return the records that came after the first ones."""
        return [record for _, record in self.log.read(self.first)]

    def predictions(self, schema=PREDICTION_SCHEMA):
        return [decode_prediction(r.body) for r in self.logged() if r.schema == schema]


@pytest.fixture
def world_of(tmp_path):
    return lambda project, records, **more: World(tmp_path, project, records, **more)


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


@pytest.fixture
def shop_of(tmp_path):
    return lambda project: Shop(tmp_path, project=project)


@pytest.fixture
def replay(tmp_path):
    return Shop(tmp_path, "request")
