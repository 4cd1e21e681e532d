"""From imported history to a model in production, by the command line alone."""

import random

import pytest

pytest.importorskip("mlflow")
pytestmark = pytest.mark.xdist_group("up")


def history(path):
    """Write orders of customers who each have five favourites of fifty items."""
    chance = random.Random(1)
    favourites = {user: chance.sample(range(50), 5) for user in range(60)}
    lines = [
        f"{user},{item},2026-03-{day:02}T{user % 24:02}:00:00Z"
        for day in range(1, 25)
        for user, liked in favourites.items()
        for item in sorted({*chance.sample(liked, 3), chance.randrange(50)})
    ]
    path.write_text("\n".join(["user_id,item_id,when", *lines]))


def test_a_model_is_trained_released_served_and_rolled_back(shop, start, until):
    history(shop.root / "clicks.csv")
    definitions = (shop.root / "shop.py").read_text()
    lenient = definitions.replace("fl.better(", "fl.no_worse(margin=1.0, ")
    (shop.root / "shop.py").write_text(lenient)
    shop.run("import", shop.root / "clicks.csv", "--event", "click", "--time", "when")
    with start(shop):
        until(lambda: shop.call("/status")[1]["lag"] == 0)
        turn = shop.json("train", "ranker")
        assert turn["state"] == "promoted", turn
        assert turn["data"]["source"] == "history"
        until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 1)
        status, reply = shop.call("/api/recommend?user_id=3")
        assert (status, reply["version"], reply["degraded"]) == (200, 1, [])
        released = shop.json("history", "ranker")["releases"]
        assert [(r["version"], r["action"]) for r in released] == [(1, "promote")]
        assert shop.json("history", "--at", "2020-01-01T00:00:00Z")["releases"] == []
        assert "1" in shop.run("rollback", "ranker", code=2).stderr
        # What the gateway served is what training computes of it.
        skew = shop.json("turn", "ranker")["skew"]
        assert (skew["requests"], skew["left_out"], skew["mismatched"]) == (1, {}, {})
        assert skew["rows"] > 1
