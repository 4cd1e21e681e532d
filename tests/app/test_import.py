"""``feilun import``: files of past events become features."""

from datetime import UTC, datetime, timedelta

import pytest

pl = pytest.importorskip("polars")

ROWS = "客户,商品,时间\n1,10,2026-01-02 10:00\n1,11,2026-01-03 11:30\n1,10,2026-01-02 10:00\n"
COLUMNS = ("--event", "click", "--map", "user_id=客户", "--map", "item_id=商品", "--time", "时间")


def clicks(shop, user):
    shop.run("rebuild")
    return shop.json("features", "user_profile:clicks", f"user_id={user}")["features"]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_chinese_columns_in_either_encoding(shop, encoding):
    path = shop.root / "订单.csv"
    path.write_bytes(ROWS.encode(encoding))
    done = shop.json("import", path, *COLUMNS)
    assert done == {"rows": 3, "accepted": 3, "duplicates": 0, "erased": 0, "bad": 0}
    assert clicks(shop, 1) == {"user_profile:clicks": 3}


def test_the_same_file_again_counts_once(shop):
    path = shop.root / "orders.csv"
    path.write_text(ROWS)
    shop.run("import", path, *COLUMNS)
    assert shop.json("import", path, *COLUMNS)["duplicates"] == 3
    path.write_text(ROWS + "1,12,2026-01-05 09:00\n")
    assert shop.json("import", path, *COLUMNS)["accepted"] == 1
    assert clicks(shop, 1) == {"user_profile:clicks": 4}


def test_parquet_with_a_delay(shop):
    path = shop.root / "orders.parquet"
    frame = pl.DataFrame({"user_id": [5], "item_id": [6], "t": ["2026-01-02T10:00:00Z"]})
    frame.write_parquet(path)
    arguments = ("--event", "click", "--time", "t", "--delay", "1d")
    assert "1 accepted" in shop.run("import", path, *arguments).stdout
    assert clicks(shop, 5) == {"user_profile:clicks": 1}


def test_times_as_spreadsheets_write_them(shop):
    path = shop.root / "orders.csv"
    path.write_text(ROWS.replace("2026-01-02", "2026/1/2").replace("2026-01-03", "2026/1/3"))
    shop.run("import", path, *COLUMNS, code=1)
    done = shop.json("import", path, *COLUMNS, "--time-format", "%Y/%m/%d %H:%M")
    assert done["accepted"] == 3
    error = shop.run("import", path, *COLUMNS, "--time-format", "%d.%m.%Y", code=2).stderr
    assert "2026/1/2" in error


def test_rows_that_cannot_be_used_are_kept_with_their_reason(shop):
    path = shop.root / "orders.csv"
    path.write_text(ROWS + "x,1,2026-01-02 10:00\n1,1,soon\n")
    assert "2 bad" in shop.run("import", path, *COLUMNS, code=1).stdout
    reasons = " ".join(event["reason"] for event in shop.json("events", "bad")["bad"])
    assert "soon" in reasons


@pytest.mark.parametrize("clock", ["wall", "request"])
def test_a_row_of_tomorrow_moves_nobody_into_the_future(shop, clock):
    settings = shop.root / "feilun.toml"
    settings.write_text(
        settings.read_text().replace("[platform]", f'[platform]\nclock = "{clock}"')
    )
    path = shop.root / "orders.csv"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    path.write_text(ROWS + f"5,5,{tomorrow.isoformat()}\n")
    assert "3 accepted, 0 known before, 1 bad" in shop.run("import", path, *COLUMNS, code=1).stdout
    (bad,) = shop.json("events", "bad")["bad"]
    assert f"{tomorrow:%Y-%m-%dT%H:%M:%S}" in bad["reason"]
    assert clicks(shop, 5) == {"user_profile:clicks": 0}
    read = shop.json("features", "user_profile:clicks", "user_id=1")
    assert read["as_of"] < tomorrow.timestamp() * 1e6 - 23 * 3600e6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--event", "klick", "--time", "时间"), "click"),
        (("--event", "click", "--time", "when"), "when"),
        (("--event", "click", "--time", "时间", "--map", "user=客户"), "user_id"),
        ((*COLUMNS, "--delay", "soon"), "soon"),
        ((*COLUMNS, "--delay", "1d", "--available-at", "时间"), "exclude"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_read(shop, arguments, said):
    path = shop.root / "orders.csv"
    path.write_text(ROWS)
    assert said in shop.run("import", path, *arguments, code=2).stderr
    assert not (shop.root / ".feilun").exists()


def test_a_conflict_says_which_fields_differ(shop):
    path = shop.root / "orders.csv"
    named = (*COLUMNS, "--id", "line", "--source", "orders")
    path.write_text("line,客户,商品,时间\nA1,1,10,2026-01-02 10:00\n")
    shop.run("import", path, *named)
    path.write_text("line,客户,商品,时间\nA1,1,11,2026-01-02 10:00\n")
    assert "1 bad" in shop.run("import", path, *named, code=1).stdout
    said = shop.run("events", "bad").stdout
    assert "fields.item_id was 10, now 11" in said
    assert '"item_id": 11' in said
    (bad,) = shop.json("events", "bad")["bad"]
    assert bad["differs"] == {"fields.item_id": [10, 11]}
    assert bad["record"]["fields"] == {"user_id": 1, "item_id": 11}
