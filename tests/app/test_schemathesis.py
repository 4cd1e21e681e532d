"""Schemathesis asks a running gateway everything that its description allows, and what it forbids.

No answer is a server's error but 503 and 504, and each is what the description says it is.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("schemathesis")
xgboost = pytest.importorskip("xgboost")

pytestmark = pytest.mark.xdist_group("up")

DEFINITIONS = '''
"""A shop with every kind of field, parameter, feature and reply."""

from dataclasses import dataclass

import feilun as fl

user, item = fl.Entity("user_id", int), fl.Entity("item_id", int)
city = fl.Entity("city", str)


class Click(fl.Event):
    """Somebody looked at a product."""

    user_id: fl.Field[int]
    item_id: fl.Field[int]
    seconds: fl.Field[float | None]
    taste: fl.Field[fl.Vector | None] = fl.Field(dim=2, default=None)


class Visit(fl.Event):
    """Somebody came."""

    city: fl.Field[str]
    again: fl.Field[bool]
    user_id: fl.Field[int | None]


class UserProfile(fl.FeatureView, entity=user):
    """How a customer shops."""

    clicks = fl.count(Click)
    recent = fl.last(Click.item_id, n=5)
    seconds = fl.sum(Click.seconds)
    city = fl.last(Visit.city)
    taste = fl.mean(Click.taste)
    each = seconds / clicks


class UserItem(fl.FeatureView, entity=(user, item)):
    """What a customer and a product have had with each other."""

    clicks = fl.count(Click)


class Places(fl.FeatureView, entity=city):
    """Where people are."""

    visits = fl.count(Visit, window="7d")
    again = fl.last(Visit.again)


class Trends(fl.FeatureView):
    """Everybody."""

    popular = fl.top(Click.item_id, n=10)


ranker = fl.adopted(
    "ranker",
    features=[UserItem.clicks, UserProfile.clicks],
    label=fl.outcome(Click, within="30m"),
    metric="precision@10",
)


@dataclass
class Tip:
    """One product."""

    item_id: int
    why: str | None
    next: "Tip | None" = None


@fl.capability("/api/recommend", model=ranker, candidates=[Trends.popular], fallback=Trends.popular)
def recommend(
    scored: fl.Scored,
    user_id: int,
    k: int = 10,
    tags: list[str] = [],
    ids: list[int] = [],
    fresh: bool = False,
    weight: float = 1.0,
) -> list[int]:
    """Products for a customer, best first."""
    return scored.top(k)


@fl.capability("/api/tips", model=ranker, candidates=[Trends.popular], fallback=Trends.popular)
def tips(scored: fl.Scored, user_id: int, city: str, why: str = "") -> list[Tip]:
    """Products with the reason."""
    return [Tip(item_id=item, why=why) for item in scored.top(2)]
'''

RULES = """
hooks = "hooks.py"

[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "503", "504"]

# No schema says that a time must be one, how many bytes a key has, or what a function refuses.
[checks.positive_data_acceptance]
enabled = false

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "405", "413", "415", "429", "503", "504"]

# What is wrong with one of many costs the others nothing: it is said in the answer, which is 200.
[[operations]]
include-path-regex = "/api/events|/batch$"
checks.negative_data_rejection.enabled = false
"""

HOOKS = '''
"""What is asked, where the description says less than is sensible."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    """Anybody may send headers of their own; no description forbids them."""
    return "x-schemathesis-unknown-property" not in (case.headers or {})


@schemathesis.hook
def map_headers(context, headers):
    """Nobody waits for long, but for who says for how long."""
    return {"Request-Timeout": "0.5", **(headers or {})}


@schemathesis.hook
def map_query(context, query):
    """Most requests do not ask for it: no record is that far."""
    if isinstance((query or {}).get("min_offset"), int) and query["min_offset"] % 4:
        del query["min_offset"]
    return query
'''

EVENTS = [
    {"event": "click", "fields": {"user_id": 7, "item_id": 1, "seconds": 1.5, "taste": [0.1, 2]}},
    {"event": "click", "fields": {"user_id": 7, "item_id": 2}},
    {"event": "visit", "fields": {"city": "Beijing", "again": True, "user_id": 7}},
]


@pytest.fixture
def wide(shop, start, until):
    """A shop with an adopted model, some events and a team, running: it asks for a key."""
    import numpy as np

    (shop.root / "shop.py").write_text(DEFINITIONS)
    x = np.random.default_rng(0).integers(0, 9, (400, 2)).astype(np.float32)
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(x, x[:, 0] * 2 + x[:, 1]), 20)
    booster.save_model(shop.root / "model.ubj")
    with start(shop):
        shop.run("adopt", "ranker", shop.root / "model.ubj")
        assert shop.call("/api/events", EVENTS)[0] == 200
        until(lambda: shop.call("/api/tips?user_id=7&city=Beijing")[1]["version"] == 1)
        until(lambda: shop.call("/api/trends")[1]["features"]["popular"])
        shop.run("team", "add", "growth", "--can", "recommend", "--quota", "1/s")
        until(lambda: shop.status("/api/trends") == 401)
        yield shop


def token_of(shop):
    return (shop.root / ".feilun/run/token").read_text().strip()


def schemathesis(shop, cases, seed):
    """Run all of its phases with the machine's own token; return its report."""
    (shop.root / "rules.toml").write_text(RULES)
    (shop.root / "hooks.py").write_text(HOOKS)
    report = shop.root / "report.json"
    done = subprocess.run(
        [Path(sys.executable).parent / "schemathesis", "--config-file", "rules.toml",
         "run", f"http://127.0.0.1:{shop.port}/openapi.json",
         "--phases", "examples,coverage,fuzzing,stateful",
         "--max-examples", str(cases), "--seed", str(seed), "--continue-on-failure",
         "--header", f"Authorization: Bearer {token_of(shop)}",
         "--generation-database", "none", "--no-color",
         "--report", "json", "--report-json-path", report],
        cwd=shop.root, env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    said = "\n".join(line[:500] for line in done.stdout.splitlines()[-400:])
    assert done.returncode == 0, said + done.stderr
    return json.loads(report.read_text())


def check(shop, report, fewest):
    described = shop.call("/openapi.json", key=token_of(shop))[1]["paths"]
    operations = sum(len(methods) for methods in described.values())
    assert report["operations"]["tested"] == operations - 1  # it leaves out /openapi.json itself
    assert {phase["status"] for phase in report["phases"].values()} == {"success"}
    assert report["test_cases"]["generated"] >= fewest
    assert shop.call("/ready") == (200, {"status": "ready", "problems": []})


def test_a_few_of_all_requests(wide):
    check(wide, schemathesis(wide, 5, seed=1), fewest=1_000)


@pytest.mark.soak
def test_a_thousand_requests_an_operation(wide):
    check(wide, schemathesis(wide, 1_000, seed=int.from_bytes(os.urandom(4))), fewest=10_000)
