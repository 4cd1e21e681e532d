"""A request that comes again gets what it got; one whose caller has gone is given up."""

import asyncio
import hashlib

import pytest

from feilun.records.codec import decode_prediction

ID = [(b"x-request-id", b"order-77")]


def ask(shop, headers=ID, **query):
    return shop.client.get("/api/recommend", {"user_id": 1} | query, headers=headers)


def test_a_retry_gets_the_first_reply_byte_for_byte(shop):
    """Though the model, the features and the time are others by then."""
    shop.train((0, 0, 1))

    async def later():
        shop.train((0, 0, -1))
        shop.fold([(1, 9, 1, shop.clock.now() + 1)] * 50)
        shop.clock.advance(60_000_000)
        shop.champions.refresh()
        return await ask(shop)

    first, again, other = shop.run(ask(shop), later(), ask(shop, headers=()))
    assert again.body == first.body
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert other.json["version"] == 2
    assert other.json["result"] != first.json["result"]
    assert len(shop.predictions()) == 2


def count_answers(shop, monkeypatch):
    """Return a list that gets the id of each answer that is made: read, scored and composed."""
    answerer = shop.app.routes["/api/recommend"].methods["GET"].__self__._answerer
    made, original = [], answerer.answer

    async def answer(parameters, options, id):
        made.append(id)
        return await original(parameters, options, id)

    monkeypatch.setattr(answerer, "answer", answer)
    return made


@pytest.fixture
def answered(shop, monkeypatch):
    return count_answers(shop, monkeypatch)


def test_a_retry_is_answered_from_the_log_without_making_an_answer(shop, answered):
    """Nor does it wait for the record that it asks to see: its first answer had seen one."""
    shop.train()

    async def retry():
        return await ask(shop, min_offset=10**6)

    first, again, other = shop.run(ask(shop), retry(), ask(shop, headers=()))
    assert (first.status, again.status, other.status) == (200, 200, 200)
    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    assert answered == ["order-77", other.json["request_id"]]


def test_a_retry_is_answered_though_nothing_could_be_by_now(shop, monkeypatch):
    shop.train()

    async def broken():
        monkeypatch.setattr(shop.store, "snapshot", None)
        return await ask(shop)

    first, again = shop.run(ask(shop), broken())
    assert (again.status, again.body) == (200, first.body)


def test_what_is_another_request_is_not_taken_for_a_retry(shop, answered):
    shop.train()
    _, other, batch = shop.run(
        ask(shop),
        ask(shop, user_id=2),
        shop.client.post("/api/recommend/batch", [{"user_id": 1}], headers=ID),
    )
    assert (other.status, other.code) == (409, "conflict")
    assert batch.json["replies"][0]["status"] == 200
    assert answered == ["order-77", "order-77", "order-77.0"]


def test_a_batch_is_answered_from_the_log_too(shop, answered):
    shop.train()
    asked = [{"user_id": 1}, {"user_id": 2}]
    first, again = shop.run(
        *(shop.client.post("/api/recommend/batch", asked, headers=ID) for _ in range(2))
    )
    assert again.body == first.body
    assert sorted(answered) == ["order-77.0", "order-77.1"]


def test_in_a_replay_a_retry_is_found_by_the_time_that_it_says(replay, monkeypatch):
    replay.train()
    answered = count_answers(replay, monkeypatch)
    with replay.store.snapshot() as snapshot:
        as_of = snapshot.mark().time + 5
    said = [ask(replay, as_of=as_of) for _ in range(2)]
    first, again, later = replay.run(*said, ask(replay, as_of=as_of + 1))
    assert again.body == first.body
    assert (later.status, len(answered)) == (409, 2)


def test_many_at_once_get_one_answer(shop):
    shop.train()

    async def together():
        return await asyncio.gather(*(ask(shop) for _ in range(20)))

    replies = shop.run(together())
    assert len({reply.body for reply in replies}) == 1
    assert len(shop.predictions()) == 1
    assert sum("idempotent-replayed" in reply.headers for reply in replies) == 19


def test_a_retry_is_counted_once(shop):
    shop.train()
    *_, metrics = shop.run(ask(shop), ask(shop), shop.client.get("/metrics"))
    counted = 'capability="recommend",model="ranker",version="1"} 1\n'
    assert counted in metrics.body.decode()


def test_an_answer_from_before_replies_were_kept_is_made_anew(shop):
    import msgspec

    from feilun.records.codec import encode_prediction

    shop.train()
    original = shop.log.append

    def without_reply(records):
        found = []
        for record in records.records() if hasattr(records, "records") else records:
            old = msgspec.structs.replace(decode_prediction(record.body), reply=b"")
            found.append(msgspec.structs.replace(record, body=encode_prediction(old)))
        return original(found)

    shop.log.append = without_reply
    first, again = shop.run(ask(shop), ask(shop))
    assert (first.status, again.status) == (200, 200)
    assert "idempotent-replayed" not in again.headers


def test_what_is_not_personalised_is_not_kept(shop):
    shop.train()
    first, again = shop.run(ask(shop, personalised="false"), ask(shop, personalised="false"))
    assert first.json["result"] == again.json["result"]
    (logged,) = shop.predictions()
    assert logged.reply == b""


@pytest.mark.parametrize(
    ("key", "id"),
    [
        (b'"8e03978e-40d5"', "8e03978e-40d5"),
        (b"8e03978e", "8e03978e"),
        (b"\xe9 / key", hashlib.blake2b("é / key".encode(), digest_size=16).hexdigest()),
        (b"k" * 90, hashlib.blake2b(b"k" * 90, digest_size=16).hexdigest()),
    ],
)
def test_an_idempotency_key_names_the_request(shop, key, id):
    shop.train()
    headers = [(b"idempotency-key", key), *ID]
    first, again, other = shop.run(
        ask(shop, headers), ask(shop, headers), ask(shop, headers, user_id=2)
    )
    assert first.headers["x-request-id"] == first.json["request_id"] == id
    assert again.body == first.body
    assert (other.status, other.code) == (409, "conflict")


def timed(shop, seconds, **query):
    return ask(shop, headers=[(b"request-timeout", seconds)], **query)


def test_who_has_gone_is_not_waited_for(shop):
    """The record that it asks to see never comes; a moment later it would be 503 after 2 s."""
    shop.train()

    async def both():
        loop = asyncio.get_running_loop()
        started = loop.time()
        late = await timed(shop, b"0.05", min_offset=10**6)
        return late, loop.time() - started

    late, took = shop.run(both())
    assert (late.status, late.code) == (504, "too_late")
    assert took < 1.0


def test_a_slow_model_is_given_up_too(shop):
    shop.train((0, 0, 1), "hang")

    async def both():
        shop.champions.get("ranker").scorer._aside = True
        return await timed(shop, b"0.05")

    assert shop.run(both()).status == 504


def test_a_retry_after_the_deadline_gets_what_was_kept(shop):
    """The commit was on its way: it is kept, and the retry has it at once."""
    shop.train()
    original = shop.log.append

    def slow(records):
        import time

        time.sleep(0.2)
        return original(records)

    shop.log.append = slow
    headers = [*ID, (b"request-timeout", b"0.05")]
    late, again = shop.run(ask(shop, headers), ask(shop))
    assert (late.status, again.status) == (504, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert len(shop.predictions()) == 1


def test_with_enough_time_it_is_answered(shop):
    shop.train()
    assert shop.run(timed(shop, b"5")).status == 200


@pytest.mark.parametrize("seconds", [1 - 0.7, 0.1 + 0.2, 5e-324, 1e-05, 999_999.0, 123_456 / 7])
def test_a_timeout_is_what_a_program_makes_of_a_number(shop, seconds):
    assert shop.run(timed(shop, str(seconds).encode())).status in (200, 504)


@pytest.mark.parametrize("seconds", [b"", b"-1", b"soon", b"1e9", b"nan", b"0x1", b"1,5"])
def test_a_timeout_that_is_none_is_refused(shop, seconds):
    reply = shop.run(timed(shop, seconds))
    assert (reply.status, reply.code) == (400, "bad_input")


def test_a_timeout_of_another_part_is_not_taken_for_the_callers(shop, monkeypatch):
    """What raises TimeoutError by itself is a defect, and is answered as one."""
    route = shop.app.routes["/api/recommend"].methods["GET"].__self__

    async def raises(options):
        raise TimeoutError

    monkeypatch.setattr(route._tools.moments, "reach", raises)
    assert shop.run(timed(shop, b"5")).status == 500
