"""A damaged blob costs an answer what was in it, and says so; nobody is refused for it."""

import pytest

from feilun.aggregation import encode_key
from feilun.features.built import KEY, decode_built
from feilun.records.record import RECOMPUTE

RECOMMEND = ("/api/recommend", {"user_id": 1})


def damage(shop, feature, **keys):
    """Flip a bit of the blob that a feature of these keys is in."""
    with shop.store.snapshot() as snapshot:
        family = decode_built(snapshot.get(KEY), shop.project).family_of(feature)
        name = family.id + encode_key(feature.fold.keys, [keys[k.name] for k in feature.fold.keys])
        raw = snapshot.get(name)
        changed = raw[:-1] + bytes([raw[-1] ^ 1])
        mark = snapshot.mark()
    shop.store.commit([(name, changed)], mark.offset, mark)


def addresses(shop, view):
    return {feature.address for feature in shop.project.views[view].features}


def flags(reply):
    return {flag.removeprefix("missing:") for flag in reply.json["degraded"]}


def feature(shop, address):
    view, name = address.split(":")
    return next(f for f in shop.project.views[view].features if f.name == name)


def test_a_view_is_missing_and_its_neighbours_are_not(shop):
    damage(shop, feature(shop, "user_profile:orders"), user_id=1)
    get = shop.client.get
    hurt, other = shop.run(
        get("/api/user_profile", {"user_id": 1}), get("/api/user_profile", {"user_id": 2})
    )
    assert hurt.status == 200
    assert flags(hurt) == addresses(shop, "user_profile")
    assert all(value in (None, []) for value in hurt.json["features"].values())
    assert other.json["degraded"] == []
    assert other.json["features"]["orders"] == 15


def test_one_item_of_many_costs_the_answer_that_item_alone(shop):
    shop.train((0, 1, 0))  # by the heat of the items

    async def damaged():
        damage(shop, feature(shop, "item_profile:heat"), item_id=5)
        return await shop.client.get(*RECOMMEND)

    before, after = shop.run(shop.client.get(*RECOMMEND), damaged())
    assert before.json["result"][:2] == [5, 4]
    assert after.status == 200
    assert after.json["version"] == 1
    assert after.json["result"][0] == 4
    assert flags(after) == flags(before) | {"item_profile:heat"}
    *_, logged = shop.predictions()
    assert logged.columns == RECOMPUTE  # no vector of it is trained on as it was


@pytest.mark.parametrize("address", ["trends:popular", "user_profile:recent_items"])
def test_a_list_of_candidates_that_is_damaged_is_told_of(shop, address):
    shop.train()
    damage(shop, feature(shop, address), user_id=1)
    found = shop.run(shop.client.get(*RECOMMEND))
    assert found.status == 200
    assert found.json["result"]  # the other list
    assert address in flags(found)
