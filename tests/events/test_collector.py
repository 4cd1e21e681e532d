"""What the collector takes, corrects, refuses and keeps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.clock import DAY, HOUR, MINUTE, ManualClock
from feilun.definitions.specs import EventSpec, FieldSpec
from feilun.errors import Conflict, FeilunError, InputError, TooLarge
from feilun.events.collector import BODY_LIMIT, ITEM_LIMIT, KEPT_LIMIT, Collector
from feilun.records.erasure import Erasures
from feilun.records.record import LATE
from feilun.records.schema import schemas_of
from feilun.testing.fakes import MemoryLog
from feilun.testing.records import START as NOW


@pytest.fixture
def log():
    return MemoryLog()


@pytest.fixture
def collector(project, log):
    return Collector(project, log, ManualClock(NOW))


def event(id="1", time=NOW - HOUR, **fields):
    body = {"event": "order_line", "time": time, "id": id}
    body["fields"] = {"user_id": 7, "item_id": 42, "city": "北京", **fields}
    return {name: value for name, value in body.items() if value is not None}


def raw(body):
    return json.dumps(body).encode()


def statuses(answers):
    return [answer.status for answer in answers]


def test_the_schemas_of_the_projects_events_are_declared_at_start(project, collector, log):
    assert log.schemas() == schemas_of(project.events.values())
    Collector(project, log, ManualClock(NOW))


def test_a_schema_of_another_meaning_is_refused_at_start(project):
    log = MemoryLog()
    log.declare({project.events["tick"].schema_id: b"something else"})
    with pytest.raises(Conflict, match="tick"):
        Collector(project, log, ManualClock(NOW))


def test_one_event_becomes_one_record(collector, log):
    (answer,) = collector.accept("web", raw(event(price=2)))
    assert (answer.status, answer.offset, answer.id) == ("accepted", 0, "1")
    ((_, record),) = log.read(0)
    assert record.schema.startswith("order_line.v1.")
    assert (record.source, record.id, record.subject) == ("web", "1", "user_id=7")
    assert record.time == record.client_time == NOW - HOUR
    assert record.received == record.available == NOW
    assert msgspec.msgpack.decode(record.body) == [7, 42, 2.0, "北京", None]
    assert len(record.digest) == 16


def test_what_is_from_before_its_subject_was_erased_is_not_stored(collector, log):
    collector.accept("web", raw(event()))
    log.erase(Erasures.begun().adding(["user_id=7"], NOW - 1))
    answers = collector.accept("web", raw([event(), event("2", user_id=8), event("3", time=NOW)]))
    assert statuses(answers) == ["erased", "accepted", "accepted"]
    assert (answers[0].id, answers[0].offset) == ("1", None)
    assert "erased" in answers[0].reason
    assert [record.id for _, record in log.read(0)] == ["2", "3"]


def test_a_digest_is_of_the_event_its_time_and_its_fields_alone(collector, log):
    collector.accept("web", raw([event("1", price=2, gift=True), event("2"), event("3", None)]))
    said = [
        ["order_line", NOW - HOUR, [7, 42, 2.0, "北京", True]],
        ["order_line", NOW - HOUR, [7, 42, None, "北京"]],  # without what is absent at the end
        ["order_line", None, [7, 42, None, "北京"]],
    ]
    digests = [
        hashlib.blake2b(msgspec.msgpack.encode(one), digest_size=16).digest() for one in said
    ]
    assert [record.digest for _, record in log.read(0)] == digests


@pytest.fixture
def vectors(project, log):
    spot = FieldSpec("spot", "vector", dim=3)
    event = EventSpec("seen", 1, (spot, FieldSpec("near", "vector", True, 1)), None)
    return Collector(replace(project, events={"seen": event}), log, ManualClock(NOW))


def test_a_vector_is_a_list_of_so_many_numbers(vectors, log):
    (answer,) = vectors.accept("web", raw({"event": "seen", "fields": {"spot": [1, -2.5, 3e9]}}))
    assert answer.status == "accepted"
    assert msgspec.msgpack.decode(log.read(0)[0][1].body) == [[1.0, -2.5, 3e9], None]


@pytest.mark.parametrize(
    ("spot", "reason"),
    [
        ("[1, 2]", "fields.spot: expected an array of length 3"),
        ("[1, 2, 3, 4]", "fields.spot: expected an array of length 3"),
        ('[1, 2, "3"]', "fields.spot[2]: expected float, got str"),
        ("[1, 2, null]", "fields.spot[2]: expected float, got null"),
        ("[1, 2, 1e999]", "number out of range"),
        ("[1, 2, NaN]", "malformed"),
        ("null", "fields.spot: expected array, got null"),
        ("1", "fields.spot: expected array, got int"),
    ],
)
def test_a_vector_that_is_not_so_many_finite_numbers_is_bad(vectors, spot, reason):
    body = b'{"event": "seen", "fields": {"spot": ' + spot.encode() + b"}}"
    try:
        (answer,) = vectors.accept("web", body)
    except InputError as error:
        assert reason in str(error)
    else:
        assert (answer.status, reason in answer.reason) == ("bad", True), answer.reason


@pytest.mark.parametrize("form", [lambda e: e, lambda e: {"events": e}])
def test_an_array_and_a_batch_are_the_same(collector, log, form):
    answers = collector.accept("web", raw(form([event("1"), event("2")])))
    assert [(a.status, a.offset, a.id) for a in answers] == [
        ("accepted", 0, "1"),
        ("accepted", 1, "2"),
    ]


def test_an_empty_batch_is_answered_with_nothing(collector):
    assert collector.accept("web", b"[]") == []
    assert collector.accept("web", b'{"events": []}') == []


def test_a_batch_may_name_its_source(collector, log):
    collector.accept("web", raw({"events": [event()], "source": "app"}))
    assert log.read(0)[0][1].source == "app"


@pytest.mark.parametrize("source", ["gateway", "import:x", "", "a" * 65, "a b", "a\n", "飞"])
def test_an_impossible_source_is_refused(collector, log, source):
    with pytest.raises(InputError, match="source"):
        collector.accept("web", raw({"events": [event()], "source": source}))
    assert log.end() == 0


def test_a_resend_is_a_duplicate_whenever_it_was_sent(collector, log):
    batch = {"events": [event()], "sent_at": NOW - MINUTE}
    assert statuses(collector.accept("web", raw(batch))) == ["accepted"]
    batch["sent_at"] = NOW
    assert statuses(collector.accept("web", raw(batch), NOW + HOUR)) == ["duplicate"]
    assert statuses(collector.accept("web", raw(event()), NOW + 2 * HOUR)) == ["duplicate"]
    assert log.end() == 1


def test_another_body_under_one_id_is_a_conflict(collector, log):
    answers = collector.accept("web", raw([event(), event(item_id=43)]))
    assert statuses(answers) == ["accepted", "conflict"]
    assert answers[1].offset is None
    assert answers[1].reason
    assert len(log.bad()) == 1


def test_optional_fields_may_be_absent_or_null_alike(collector):
    answers = collector.accept("web", raw([event(), event(price=None, gift=None)]))
    assert statuses(answers) == ["accepted", "duplicate"]


def test_an_old_event_is_late(collector, log):
    (answer,) = collector.accept("web", raw(event(time=NOW - 30 * DAY)))
    assert answer.status == "late"
    assert answer.reason
    assert log.read(0)[0][1].flags == LATE


def test_an_event_without_an_id_gets_one(collector, log):
    answers = collector.accept("web", raw([event(None), event(None)]))
    assert statuses(answers) == ["accepted", "accepted"]
    assert len({answer.id for answer in answers}) == 2
    assert all(answer.id[14] == "7" for answer in answers)


def test_an_event_without_a_time_happened_at_its_receipt(collector, log):
    collector.accept("web", raw(event(time=None)))
    record = log.read(0)[0][1]
    assert record.time == record.client_time == record.received == NOW


@pytest.mark.parametrize("text", ["2024-10-03T08:00:00+08:00", "2024-10-03T00:00:00Z"])
def test_times_may_be_iso_8601(collector, log, text):
    collector.accept("web", raw(event(time=text)))
    assert log.read(0)[0][1].client_time == 1_727_913_600_000_000


@pytest.mark.parametrize("years", [-10, -1, 1, 10])
def test_a_wrong_clock_is_corrected_by_sent_at_and_the_original_kept(collector, log, years):
    wrong = NOW + years * 365 * DAY
    body = {"events": [event(time=wrong - HOUR)], "sent_at": wrong}
    (answer,) = collector.accept("web", raw(body))
    record = log.read(0)[0][1]
    assert record.time == NOW - HOUR
    assert record.client_time == wrong - HOUR
    # A day behind the window cannot tell a resend from a first copy, so it is kept uncounted.
    assert answer.status == ("late" if years < 0 else "accepted")


@settings(deadline=None)
@given(client=st.integers(0, NOW * 2), sent=st.none() | st.integers(0, NOW * 2))
def test_no_event_is_effective_after_its_receipt(project, client, sent):
    log = MemoryLog()
    body = {"events": [event(time=client)], **({} if sent is None else {"sent_at": sent})}
    try:
        Collector(project, log, ManualClock(NOW)).accept("web", raw(body))
    except InputError:
        return
    for _, record in log.read(0):
        assert record.time <= record.received == NOW
        assert record.client_time == client


def test_a_replay_receives_events_at_their_own_time(project, log):
    collector = Collector(project, log, ManualClock(NOW), "request")
    old = NOW - 4_000 * DAY
    body = {"events": [event("1", old), event("2", old + HOUR)], "sent_at": NOW}
    assert statuses(collector.accept("web", raw(body))) == ["accepted", "accepted"]
    record = log.read(0)[0][1]
    assert record.time == record.received == record.available == old
    (answer,) = collector.accept("web", raw([event("3", None)]))
    assert answer.reason.startswith("time:")
    (answer,) = collector.accept("web", raw([event("4", NOW + 4_000 * DAY)]))
    assert answer.status == "bad"


BAD = [
    ({"event": "oder_line", "fields": {}}, "Did you mean 'order_line'"),
    ({"event": "zzz", "fields": {}}, "Known: order_line, tick"),
    ({"fields": {}}, "event: is missing"),
    ({"event": 5, "fields": {}}, "event: must be a str"),
    (5, "event: expected object"),
    ([], "event: expected object"),
    ({"event": "order_line"}, "lacks the field 'fields'"),
    (event(prise=1.0), "fields: has no field 'prise'. Did you mean 'price'?"),
    ({**event(), "ip": "1"}, "event: has no field 'ip'"),
    (event(user_id=None), "fields.user_id: expected int, got null"),
    (event(user_id="7"), "fields.user_id: expected int, got str"),
    (event(user_id=7.5), "fields.user_id: expected int, got float"),
    (event(user_id=True), "fields.user_id: expected int, got bool"),
    (event(user_id=2**63), "fields.user_id: expected int <= 9223372036854775807"),
    (event(user_id=-(2**63) - 1), "fields.user_id: expected int >= -9223372036854775808"),
    (event(price="1"), "fields.price: expected float"),
    (event(city="a" * 201), "fields.city: identifies an entity in 201 bytes"),
    (event(city="北" * 67), "fields.city: identifies an entity in 201 bytes"),
    (event(city="a\0b"), "fields.city: holds the character NUL"),
    ({"event": "tick", "fields": {"note": "x" * 8_193}}, "fields.note: expected str of length"),
    (event(id=""), "id: expected str of length >= 1"),
    (event(id="x" * 65), "id: expected str of length <= 64"),
    (event(time=-1), "time: -1 is before 1970"),
    (event(time=NOW + 4_000 * DAY), "time: 2073600000000000 is more than ten years"),
    (event(time="yesterday"), "time: invalid RFC3339"),
    (event(time="2024-05-01T00:00:00"), "time: expected datetime with a timezone"),
    (event(time=2**70), "time: expected int <="),
]


@pytest.mark.parametrize(("item", "reason"), BAD)
def test_one_bad_event_is_kept_with_its_reason_and_costs_no_other(collector, log, item, reason):
    answers = collector.accept("web", raw([event("1"), item, event("2")]))
    assert statuses(answers) == ["accepted", "bad", "accepted"]
    assert [a.offset for a in answers] == [0, None, 1]
    named = item.get("id") if isinstance(item, dict) else None
    assert answers[1].id == (named if named == "1" else None)
    assert reason in answers[1].reason
    (kept,) = log.bad()
    assert (kept.source, kept.reason, kept.received) == ("web", answers[1].reason, NOW)
    assert json.loads(kept.raw) == item


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (b'"city": "\xff"', "not UTF-8"),
        (b'"price": 1e999', "number out of range"),
        (b'"city": ' + b"[" * 500 + b"]" * 500, "fields.city: expected str, got array"),
    ],
)
def test_bytes_that_no_client_should_send_are_kept_as_they_came(collector, log, field, reason):
    bad = b'{"event": "order_line", "fields": {' + field + b"}}"
    body = b"[" + raw(event("1")) + b", " + bad + b"]"
    answers = collector.accept("web", body)
    assert statuses(answers) == ["accepted", "bad"]
    assert reason in answers[1].reason
    assert log.bad()[0].raw == bad


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"5",
        b"null",
        b"[1,",
        b'{"x": NaN}',
        b'{"event": "tick", "fields": {"note": "\\ud800"}}',
        b'{"x": Infinity}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"events": 5}',
        b'{"events": [], "sent": 1}',
        b'{"sent_at": 1}',
        b'{"events": [], "sent_at": -1}',
        b'{"events": [], "sent_at": "soon"}',
    ],
)
def test_a_body_that_cannot_be_read_is_refused_and_kept(collector, log, body):
    with pytest.raises(InputError) as caught:
        collector.accept("web", body)
    (kept,) = log.bad()
    assert kept.raw == body[:KEPT_LIMIT]
    assert str(caught.value) in kept.reason
    assert log.end() == 0


def test_caps_on_bytes_and_events(collector, log):
    with pytest.raises(TooLarge, match="bytes"):
        collector.accept("web", b" " * (BODY_LIMIT + 1))
    tick = {"event": "tick", "fields": {}}
    with pytest.raises(TooLarge, match="events"):
        collector.accept("web", raw([tick] * (ITEM_LIMIT + 1)))
    with pytest.raises(TooLarge, match="events"):
        collector.accept("web", raw([5] * (ITEM_LIMIT + 1)))
    assert log.bad() == []
    assert len(collector.accept("web", raw([tick] * ITEM_LIMIT))) == ITEM_LIMIT


def test_only_so_much_of_something_unusable_is_kept(collector, log):
    collector.accept("web", raw([event(city="x" * 100_000)]))
    (kept,) = log.bad()
    assert len(kept.raw) == KEPT_LIMIT
    assert "of 100" in kept.reason


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["event", "events", "fields", "time", "id", "sent_at", "user_id", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.binary(max_size=60) | _json.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_our_own_errors_comes_of_any_bytes(project, body):
    log = MemoryLog()
    try:
        answers = Collector(project, log, ManualClock(NOW)).accept("web", body)
    except FeilunError:
        assert log.end() == 0
        return
    good = [answer for answer in answers if answer.offset is not None]
    assert len(good) == log.end()
    assert len(answers) - len(good) == len(log.bad())


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.booleans()), max_size=12))
def test_every_event_of_a_body_is_answered_in_its_place(project, drawn):
    log = MemoryLog()
    body = [event(id, item_id=item if good else "x") for id, item, good in drawn]
    answers = Collector(project, log, ManualClock(NOW)).accept("web", raw(body))
    first: dict[str, int] = {}
    for (id, item, good), answer in zip(drawn, answers, strict=True):
        if not good:
            assert answer.status == "bad"
        elif id not in first:
            assert answer.status == "accepted"
            first[id] = item
        else:
            assert answer.status == ("duplicate" if first[id] == item else "conflict")


_TIMES = st.none() | st.integers(NOW - DAY, NOW + HOUR) | st.just("2024-05-01T12:00:00+08:00")
_LINES = st.fixed_dictionaries(
    {"user_id": st.integers(0, 3), "item_id": st.just(1), "city": st.sampled_from("ab")},
    optional={"price": st.none() | st.floats(0, 9), "gift": st.none() | st.booleans()},
)
_TICKS = st.fixed_dictionaries({}, optional={"note": st.none() | st.text(max_size=3)})


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            _TIMES, st.tuples(st.just("order_line"), _LINES) | st.tuples(st.just("tick"), _TICKS)
        ),
        min_size=1,
        max_size=8,
    ),
    st.none() | st.integers(NOW - HOUR, NOW + HOUR),
)
def test_a_body_gives_the_records_that_its_events_give_alone(project, drawn, sent_at):
    collector = Collector(project, MemoryLog(), ManualClock(NOW))

    def read(items):
        body = {"events": items, **({} if sent_at is None else {"sent_at": sent_at})}
        intake = collector.read("web", json.dumps(body).encode(), NOW)
        return list(intake.records), [event.reason for event in intake.bad.values()]

    items = [
        {
            "event": name,
            "id": str(place),
            "fields": fields,
            **({} if time is None else {"time": time}),
        }
        for place, (time, (name, fields)) in enumerate(drawn)
    ]
    together, bad = read(items)
    alone = [read([item]) for item in items]
    assert together == [record for records, _ in alone for record in records]
    assert bad == [reason for _, reasons in alone for reason in reasons]
    for record in together:
        name, fields = record.schema.partition(".")[0], msgspec.msgpack.decode(record.body)
        said = items[int(record.id)].get("time")
        while fields and fields[-1] is None:
            fields.pop()
        time = None if said is None else record.client_time
        whole = msgspec.msgpack.encode([name, time, fields])
        assert record.digest == hashlib.blake2b(whole, digest_size=16).digest()
