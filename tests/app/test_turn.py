"""From imported history to a model in production, by the command line alone."""

import getpass

import pytest

pytest.importorskip("mlflow")
pytestmark = pytest.mark.xdist_group("up")


def test_a_model_is_trained_released_served_and_rolled_back(shop, start, until):
    clicks = shop.write_history(users=60, days=24)
    definitions = (shop.root / "shop.py").read_text()
    lenient = definitions.replace("fl.better(", "fl.no_worse(margin=1.0, ")
    (shop.root / "shop.py").write_text(lenient)
    shop.run("import", clicks, "--event", "click", "--time", "when")
    with start(shop):
        until(lambda: shop.call("/status")[1]["lag"] == 0)
        turn = shop.json("train", "ranker")
        assert turn["state"] == "promoted", turn
        assert turn["data"]["source"] == "history"
        said = shop.run("train", "ranker").stdout
        assert "Turn 1 of ranker: promoted." in said
        assert "version: 1, in production" in said
        assert "precision@10: " in said
        assert "95% interval" in said
        assert "imported history" in said
        assert "{" not in said
        assert str(turn["started"]) not in said
        until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 1)
        status, reply = shop.call("/api/recommend?user_id=3")
        assert (status, reply["version"], reply["degraded"]) == (200, 1, [])
        released = shop.json("history", "ranker")["releases"]
        assert [(r["version"], r["action"]) for r in released] == [(1, "promote")]
        assert [r["by"] for r in released] == [getpass.getuser()]
        assert shop.json("history", "--at", "2020-01-01T00:00:00Z")["releases"] == []
        assert "1" in shop.run("rollback", "ranker", code=2).stderr
        # What the gateway served is what training computes of it.
        skew = shop.json("turn", "ranker")["skew"]
        assert (skew["requests"], skew["left_out"], skew["mismatched"]) == (1, {}, {})
        assert skew["rows"] > 1
        roll_out(shop, until)


def roll_out(shop, until):
    """Train another version, then bring the first one back step by step beside it."""
    path = shop.root / "shop.py"
    path.write_text(path.read_text().replace("n_estimators=5", "n_estimators=6"))
    second = shop.json("train", "ranker")
    assert (second["state"], second["challenger"]["version"]) == ("promoted", 2), second
    assert "--shadow" in shop.run("rollout", "start", "ranker", 1, code=2).stderr
    shop.run("rollout", "start", "ranker", 2, "--shadow", code=2)
    assert "shadow" in shop.run("rollout", "start", "ranker", 1, "--shadow").stdout
    assert shop.call("/api/recommend?user_id=3")[1]["version"] == 2
    until(lambda: 'result="kept"' in shop.text("/metrics"))
    assert "100 %" in shop.run("rollout", "set", "ranker", 100).stdout
    assert shop.call("/api/recommend?user_id=3")[1]["version"] == 1
    # The kill switch needs no definitions: they may be what is broken.
    definitions = path.read_text()
    path.write_text("nonsense(")
    assert "answers nobody" in shop.run("rollout", "stop", "ranker").stdout
    path.write_text(definitions)
    assert shop.call("/api/recommend?user_id=3")[1]["version"] == 2
    shop.run("rollout", "start", "ranker", 1, "--percent", 2.5)
    shop.run("rollout", "promote", "ranker")
    until(lambda: shop.call("/api/recommend?user_id=3")[1]["version"] == 1)
    entries = shop.json("rollout", "show")["rollouts"]
    assert [(e["stage"], e["percent"], e["going_on"]) for e in entries] == [
        ("shadow", 0, False), ("full", 100, False), ("off", 0, False), ("canary", 2.5, False),
    ]  # fmt: skip
    assert "2.5" in shop.run("rollout", "show", "ranker").stdout


def test_a_turn_is_shown_as_people_read_it(shop):
    (shop.root / "clicks.csv").write_text("user_id,item_id,when\n1,2,2026-03-01T10:00:00Z\n")
    shop.run("import", shop.root / "clicks.csv", "--event", "click", "--time", "when")
    said = shop.run("turn", "ranker", code=1).stdout
    assert "Try again when there are events from after 2026-03-01T10:30:00" in said
    assert "{" not in said
