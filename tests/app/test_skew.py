"""The audit of what is served, in a running platform: what no checksum finds, it finds."""

import re
import struct

import lmdb
import pytest

from feilun.adapters.lmdb import environment

pytest.importorskip("mlflow")
pytestmark = pytest.mark.xdist_group("up")

USER = 3
FEATURE = "user_profile:clicks"


def forge(folder, user, clicks):
    """Let every blob of a user that holds ``clicks`` say one more, with a checksum that fits."""
    forged = 0
    with (
        lmdb.open(str(folder), max_dbs=16, map_size=environment.MAP_BYTES) as env,
        env.begin(write=True) as txn,
    ):
        values = env.open_db(b"values", txn, create=False)
        for key, blob in list(txn.cursor(values)):
            if key[8:] != ((1 << 63) + user).to_bytes(8, "big"):
                continue
            words = list(struct.unpack(f"<{len(blob) // 8}Q", blob))
            at = words.index(clicks, 2)
            words[at] += 1
            words[1] = (words[1] - 1) % 2**64
            txn.put(key, struct.pack(f"<{len(words)}Q", *words), db=values)
            forged += 1
    return forged


def clicks(shop):
    return shop.json("features", FEATURE, f"user_id={USER}")["features"][FEATURE]


def counted(shop, name):
    found = re.findall(rf'^{name}{{[^}}]*feature="{FEATURE}"}} (\d+)$', shop.text("/metrics"), re.M)
    return int(found[0]) if found else 0


def test_a_wrong_value_that_was_served_is_counted_named_and_lets_nothing_be_promoted(
    shop, start, until
):
    path = shop.root / "shop.py"
    text = path.read_text().replace("fl.better(", "fl.no_worse(margin=1.0, ")
    path.write_text(text.replace("n=20", "n=5"))
    shop.run("import", shop.write_history(30, 14), "--event", "click", "--time", "when")
    shop.run("rebuild")
    assert shop.json("train", "ranker")["state"] == "promoted"
    wanted = clicks(shop)
    assert forge(shop.root / ".feilun/tiles", USER, wanted) == 1
    with start(shop):
        reply = shop.call(f"/api/user_profile?user_id={USER}")[1]
        assert (reply["features"]["clicks"], reply["degraded"]) == (wanted + 1, [])
        for user in (USER, USER, USER + 1):
            status, answer = shop.call(f"/api/recommend?user_id={user}")
            assert (status, answer["version"]) == (200, 1)
    with start(shop):  # the audit's first round begins at once
        until(lambda: counted(shop, "feilun_skew_audited_total"))
        audited, mismatched = (
            counted(shop, f"feilun_skew_{what}_total") for what in ("audited", "mismatch")
        )
        assert 0 < mismatched < audited
        assert f"{FEATURE} was served otherwise" in shop.run("status").stdout
    path.write_text(path.read_text().replace("n_estimators=5", "n_estimators=6"))
    turn = shop.json("train", "ranker")
    assert turn["state"] == "rejected", turn
    assert FEATURE in turn["reason"]
    shop.run("rebuild")
    assert clicks(shop) == wanted
