"""What /metrics and /status say of late events, and of skew."""

import json

from feilun.clock import DAY, HOUR
from feilun.ports.skew_store import FeatureSkew, ModelSkew, SkewState

NOW = 20_000 * DAY  # the shop's clock stands still


def event(id, time):
    return {"event": "order", "id": id, "time": time,
            "fields": {"user_id": 1, "item_id": 2, "place": 1}}  # fmt: skip


def test_late_events_are_counted_and_kept(shop):
    events = [event("a", NOW - HOUR), event("b", NOW - 40 * DAY), event("b", NOW - 40 * DAY)]
    sent, metrics, status = shop.run(
        shop.client.post("/api/events", {"events": events}),
        shop.client.get("/metrics"),
        shop.client.get("/status"),
    )
    assert [answer["status"] for answer in sent.json["events"]] == ["accepted", "late", "duplicate"]
    text = metrics.body.decode()
    assert '\nfeilun_events_total{worker="w1",event="order"} 2\n' in text
    assert '\nfeilun_late_events_total{worker="w1",event="order"} 1\n' in text
    assert "# TYPE feilun_late_events_total counter" in text
    assert status.json["events"]["order"] == {"records": 2, "late": 1}
    assert shop.log.end() == 2


def test_an_event_of_which_there_is_none_is_zero(shop):
    metrics, status = shop.run(shop.client.get("/metrics"), shop.client.get("/status"))
    assert 'feilun_late_events_total{worker="w1",event="order"} 0' in metrics.body.decode()
    assert status.json["events"]["order"] == {"records": 0, "late": 0}
    assert status.json["skew"]["ranker"] == {"requests": 0, "left_out": {}, "features": {}}


def test_skew_is_exposed(shop):
    found = {"user_item:orders": FeatureSkew(60, 2), "item:place": FeatureSkew(60, 0)}
    shop.skew.save(SkewState(9, {"ranker": ModelSkew(3, {"unbuilt": 1}, found)}), 0)
    metrics, status = shop.run(shop.client.get("/metrics"), shop.client.get("/status"))
    text = metrics.body.decode()
    for line in (
        'feilun_skew_audited_total{worker="w1",model="ranker",feature="user_item:orders"} 60',
        'feilun_skew_mismatch_total{worker="w1",model="ranker",feature="user_item:orders"} 2',
        'feilun_skew_mismatch_total{worker="w1",model="ranker",feature="item:place"} 0',
        'feilun_skew_left_out_total{worker="w1",model="ranker",reason="unbuilt"} 1',
    ):
        assert f"\n{line}\n" in text
    assert status.json["skew"]["ranker"]["features"]["user_item:orders"] == {
        "audited": 60,
        "mismatched": 2,
    }
    json.dumps(status.json)
