"""A request that is not personalised: nothing of its subject is read, nothing is kept."""

import dataclasses
import json

import msgspec
import numpy as np
import pytest

from feilun.models.example_log import ExampleLog
from feilun.records.codec import decode_prediction, encode_record
from feilun.records.record import SHADOW_SCHEMA
from feilun.serving.answering.capability import Capability
from feilun.serving.http.exchange import Request, Response

USER = 7_310_445_902_117  # no other number in the log is this one
KEY = msgspec.msgpack.encode(USER)
OFF = {"user_id": USER, "personalised": "false"}


def known_user(shop):
    """Let somebody buy item 77, which nobody else knows."""
    spec = shop.clock.now()
    shop.fold([(USER, 77, 5, spec - 1_000_000)] * 9)


def log_bytes(shop):
    return b"".join(encode_record(record) for _, record in shop.log.read(0))


def ask(shop, **query):
    return shop.client.get("/api/recommend", query)


def test_a_personalised_request_is_about_somebody(shop):
    """What the other tests look for would be there."""
    known_user(shop)
    shop.train((1, 0, 1))
    reply = shop.run(ask(shop, user_id=USER, personalised="true"))
    assert 77 in reply.json["result"]
    assert reply.json["degraded"] == []
    raw = log_bytes(shop)
    assert KEY in raw
    assert str(USER).encode() in raw


def test_nothing_of_the_subject_is_read_or_kept(shop):
    known_user(shop)
    shop.train((1, 0, 1))
    reply = shop.run(ask(shop, **OFF))
    assert (reply.status, reply.json["version"]) == (200, 1)
    assert reply.json["degraded"] == ["not_personalised"]
    raw = log_bytes(shop)
    for found in (KEY, str(USER).encode(), np.int64(USER).tobytes(), np.float64(USER).tobytes()):
        assert found not in raw
    ((_, record),) = shop.log.read(0)
    assert record.subject == ""
    logged = decode_prediction(record.body)
    assert (logged.keys, logged.request) == ({}, {})
    # Trends are of everybody, so 77 may be among them; what the user has bought may not.
    matrix = np.frombuffer(logged.vectors, np.float32).reshape(-1, 3)
    assert np.isnan(matrix[:, [0, 2]]).all()
    assert not np.isnan(matrix[:, 1]).any()


def test_two_people_get_the_same(shop):
    known_user(shop)
    shop.train((1, 1, 1))
    one, other, nobody = shop.run(
        ask(shop, **OFF), ask(shop, **OFF | {"user_id": 1}), ask(shop, **OFF | {"user_id": 999})
    )
    assert one.json["result"] == other.json["result"] == nobody.json["result"]
    first, second, _ = shop.predictions()
    assert (first.vectors, first.items) == (second.vectors, second.items)


def test_the_digest_of_what_was_asked_does_not_tell_whom(shop):
    """A digest of few possible values tells the value to whoever tries them all."""
    shop.train()
    shop.run(ask(shop, **OFF), ask(shop, **OFF | {"user_id": 1}))
    one, other = (record.digest for _, record in shop.log.read(0))
    assert one == other


def test_a_post_asks_in_its_query(shop):
    shop.train()
    body = {"user_id": USER}
    reply = shop.run(shop.client.post("/api/recommend", body, query=b"personalised=false"))
    assert reply.json["degraded"] == ["not_personalised"]
    assert KEY not in log_bytes(shop)


def test_the_fallback_is_not_personalised_either(shop):
    known_user(shop)
    reply = shop.run(ask(shop, **OFF))
    assert reply.json["degraded"][:2] == ["not_personalised", "no_model"]
    assert KEY not in log_bytes(shop)


def test_a_shadow_keeps_nothing_either(shop):
    from feilun.models.bundle import columns_of

    known_user(shop)
    shop.train((1, 0, 1))
    columns = columns_of(shop.project.models["ranker"], {})[:1]
    shop.roll_out("shadow", digest=shop.bundle((2,), columns=columns))
    shop.run(ask(shop, **OFF), shadows=1)
    (record,) = [record for _, record in shop.log.read(0) if record.schema == SHADOW_SCHEMA]
    shadowed = decode_prediction(record.body)
    assert "not_personalised" in shadowed.degraded
    assert np.isnan(np.frombuffer(shadowed.vectors, np.float32)).all()
    assert KEY not in log_bytes(shop)


def test_it_is_assigned_by_its_request(shop):
    """Else the arm would be one bit of who it is; and the record could not tell why."""
    from feilun.records.split import gets_challenger

    shop.train()
    shop.roll_out("canary", 50, digest=shop.bundle())
    shop.run(*(ask(shop, **OFF) for _ in range(20)))
    arms = {p.request_id: p.arm for p in shop.predictions()}
    assert set(arms.values()) == {"champion", "challenger"}
    for id, arm in arms.items():
        assert (arm == "challenger") == gets_challenger("9f2c", id, 50)


def test_training_does_not_take_it(shop):
    """It has no key, so that anybody's purchase would be taken for its outcome."""
    shop.train()
    shop.run(ask(shop, **OFF), ask(shop, user_id=1))
    reader = ExampleLog(shop.project, shop.project.models["ranker"])
    reader.advance(shop.log, shop.log.end())
    assert [kept.prediction.keys for kept in reader._open] == [{"user_id": 1}]


@pytest.mark.parametrize("value", ["no", "", "False", "0", "null"])
def test_anything_else_than_true_or_false_is_refused(shop, value):
    reply = shop.run(ask(shop, user_id=1, personalised=value))
    assert (reply.status, reply.code) == (400, "bad_input")


def test_what_is_about_nobody_has_no_such_parameter(shop):
    item = shop.client.get("/api/inventory", {"item_id": 1, "personalised": "false"})
    view = shop.client.get("/api/user_profile", {"user_id": 1, "personalised": "false"})
    refused = shop.run(item, view)
    assert [reply.status for reply in refused] == [400, 400]
    paths = shop.run(shop.client.get("/openapi.json")).json["paths"]
    names = {
        path: {p["name"] for p in paths[path]["get"]["parameters"]}
        for path in ("/api/recommend", "/api/inventory", "/api/user_profile")
    }
    assert [path for path, found in names.items() if "personalised" in found] == ["/api/recommend"]


def with_flag(shop, *, building=False):
    """Return how a capability answers whose flag is that somebody has ordered anything."""
    route = shop.app.routes["/api/recommend"].methods["GET"].__self__
    (flag,) = [f for f in shop.project.views["user_profile"].features if f.name == "orders"]
    if building:  # of a fold that nothing has been built of
        fold = dataclasses.replace(flag.fold, hop=flag.fold.hop // 24)
        flag = dataclasses.replace(flag, fold=fold, window=flag.window // 2)
    spec = dataclasses.replace(route.spec, opt_out=flag)
    answer = Capability(spec, shop.project, route._tools).answer
    return lambda user: answer(
        Request("GET", spec.path, f"user_id={user}".encode(), b"", f"r-{user}", named=True)
    )


def opted_out(shop, *users, building=False):
    answer = with_flag(shop, building=building)
    replies = shop.run(*map(answer, users), ask(shop, **OFF))
    return [json.loads(reply.body) for reply in replies if isinstance(reply, Response)]


def test_who_has_opted_out_need_not_ask(shop):
    known_user(shop)
    shop.train((1, 0, 1))
    out, other = opted_out(shop, USER, 999)
    assert "not_personalised" in out["degraded"]
    assert "not_personalised" not in other["degraded"]
    assert KEY not in log_bytes(shop)
    keys = {p.request_id: p.keys for p in shop.predictions()}
    assert (keys[f"r-{USER}"], keys["r-999"]) == ({}, {"user_id": 999})


def test_while_nobody_knows_who_has_opted_out_all_have(shop):
    shop.train((1, 0, 1))
    (reply,) = opted_out(shop, 999, building=True)
    assert "not_personalised" in reply["degraded"]


def test_a_retry_gets_the_first_answer_though_its_subject_has_opted_out_since(shop):
    shop.train((1, 0, 1))
    first = opted_out(shop, 999)
    shop.fold([(999, 77, 5, shop.clock.now() - 1_000_000)])
    assert opted_out(shop, 999) == first
    assert "not_personalised" not in first[0]["degraded"]


def test_a_retry_is_answered_for_anybody_again_though_its_subject_has_come_back(shop):
    shop.train((1, 0, 1))
    replies = shop.run(with_flag(shop, building=True)(999), with_flag(shop)(999), ask(shop, **OFF))
    first, again = (json.loads(reply.body) for reply in replies[:2])
    assert "not_personalised" in again["degraded"]
    assert again["result"] == first["result"]
