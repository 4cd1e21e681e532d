"""Many requests in one body: each is answered and logged for itself."""

import asyncio

import pytest

ID = [(b"x-request-id", b"b-7")]
PATH = "/api/recommend/batch"


def batch(shop, *requests, headers=ID, **query):
    from urllib.parse import urlencode

    return shop.client.post(PATH, list(requests), headers=headers, query=urlencode(query).encode())


def test_each_is_answered_and_logged_in_its_order(shop):
    shop.train((0, 0, 1))
    asked = [{"user_id": user, "k": user} for user in (2, 1, 5, 3)]
    reply = shop.run(batch(shop, *asked))
    assert reply.status == 200
    assert reply.json["request_id"] == "b-7"
    found = reply.json["replies"]
    assert [each["status"] for each in found] == [200] * 4
    assert [len(each["reply"]["result"]) for each in found] == [2, 1, 5, 3]
    assert [each["reply"]["request_id"] for each in found] == [f"b-7.{n}" for n in range(4)]
    logged = {p.request_id: (p.keys["user_id"], p.version) for p in shop.predictions()}
    assert logged == {f"b-7.{n}": (one["user_id"], 1) for n, one in enumerate(asked)}


def test_one_that_fails_costs_the_others_nothing(shop, monkeypatch):
    shop.train()
    asked = [{"user_id": 1}, {"usr_id": 1}, "nonsense", {"user_id": 2**70}, {"user_id": 2}]
    found = shop.run(batch(shop, *asked)).json["replies"]
    assert [each["status"] for each in found] == [200, 400, 400, 400, 200]
    assert found[1]["error"]["code"] == "bad_input"
    assert found[1]["error"]["request_id"] == "b-7.1"
    assert len(shop.predictions()) == 2


def test_a_defect_is_one_answer_and_tells_nothing(shop, monkeypatch):
    route = shop.app.routes["/api/recommend"].methods["GET"].__self__
    reader = route._answerer.reader
    original = reader.read

    def raises(moment, parameters, *rest, **more):
        if parameters["user_id"] == 13:
            raise RuntimeError("secret detail")
        return original(moment, parameters, *rest, **more)

    monkeypatch.setattr(reader, "read", raises)
    reply = shop.run(batch(shop, {"user_id": 1}, {"user_id": 13}))
    assert [each["status"] for each in reply.json["replies"]] == [200, 500]
    assert b"secret" not in reply.body


def test_a_batch_that_comes_again_gets_the_same(shop):
    shop.train((0, 0, 1))
    asked = [{"user_id": 1}, {"user_id": 2}]

    async def later():
        shop.train((0, 0, -1))
        shop.champions.refresh()
        return await batch(shop, *asked)

    first, again, other = shop.run(batch(shop, *asked), later(), batch(shop, *asked[::-1]))
    assert again.body == first.body
    assert [each["status"] for each in other.json["replies"]] == [409, 409]
    assert len(shop.predictions()) == 2


def test_what_the_query_says_holds_for_all(shop):
    shop.train()
    reply = shop.run(batch(shop, {"user_id": 1}, {"user_id": 2}, personalised="false"))
    for each in reply.json["replies"]:
        assert each["reply"]["degraded"] == ["not_personalised"]
    assert [p.keys for p in shop.predictions()] == [{}, {}]


def test_the_log_takes_them_together(shop):
    """Ten at a time: a hundred requests are at most eleven commits, not a hundred."""
    shop.train()
    commits, original = [], shop.log.append

    def append(records):
        commits.append(len(records))
        return original(records)

    shop.log.append = append
    reply = shop.run(batch(shop, *({"user_id": n} for n in range(100))))
    assert {each["status"] for each in reply.json["replies"]} == {200}
    assert sum(commits) == 100
    assert len(commits) <= 30


def test_an_id_that_grows_too_long_is_named_by_its_digest(shop):
    shop.train()
    headers = [(b"x-request-id", b"x" * 64)]
    reply = shop.run(batch(shop, {"user_id": 1}, headers=headers))
    (found,) = reply.json["replies"]
    assert (found["status"], len(found["reply"]["request_id"])) == (200, 32)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{}", 400), (b"", 400), (b"[", 400), (b"null", 400),
     (b"[" + b"[" * 100_000, (400, 413)), (b"[" + b"{}," * 100 + b"{}]", 413)],
)  # fmt: skip
def test_what_is_no_batch_is_refused(shop, body, status):
    reply = shop.run(shop.client.post(PATH, body))
    assert reply.status in (status if isinstance(status, tuple) else (status,))
    assert shop.predictions() == []


def test_an_empty_batch_has_no_answers(shop):
    assert shop.run(batch(shop)).json["replies"] == []


def test_a_deadline_ends_all_of_them(shop):
    shop.train((0, 0, 1), "hang")

    async def ask():
        shop.champions.get("ranker").scorer._aside = True
        headers = [*ID, (b"request-timeout", b"0.05")]
        started = asyncio.get_running_loop().time()
        reply = await batch(shop, *[{"user_id": 1}] * 30, headers=headers)
        return reply, asyncio.get_running_loop().time() - started

    reply, took = shop.run(ask())
    assert reply.status == 504
    assert took < 1.0


def test_only_posts_are_taken(shop):
    assert shop.run(shop.client.get(PATH)).status == 405
