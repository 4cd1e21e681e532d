import sys
from datetime import datetime

import pytest

from feilun.adapters.files import read_table
from feilun.errors import InputError, MissingExtra

pl = pytest.importorskip("polars")

TEXT = "客户,商品,时间\n7,007,2026-01-02 10:00\n8,,2026-01-03 11:30\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk"])
def test_a_chinese_csv_reads_the_same_in_every_encoding(tmp_path, encoding):
    path = tmp_path / "orders.csv"
    path.write_bytes(TEXT.encode(encoding))
    table = read_table(path, text=True)
    assert table == {
        "客户": ["7", "8"],
        "商品": ["007", None],
        "时间": ["2026-01-02 10:00", "2026-01-03 11:30"],
    }


def test_types_are_inferred_from_the_whole_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,2\n" * 500 + "x,2.5\n")
    table = read_table(path)
    assert table["a"][-1] == "x"
    assert table["a"][0] == "1"
    assert table["b"][-1] == 2.5


def test_parquet_keeps_its_types_and_reads_only_the_named_columns(tmp_path):
    path = tmp_path / "a.parquet"
    moment = datetime(2026, 1, 2, 3, 4, 5, 6)
    pl.DataFrame({"用户": [1, None], "时间": [moment, moment], "c": ["x", "y"]}).write_parquet(path)
    assert read_table(path, ["时间", "用户"]) == {"时间": [moment, moment], "用户": [1, None]}


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_missing_column_is_named_with_the_nearest(tmp_path, name):
    path = tmp_path / name
    frame = pl.DataFrame({"customer_id": [1], "item": [2]})
    (frame.write_csv if name.endswith("csv") else frame.write_parquet)(path)
    with pytest.raises(InputError, match=r"customer_di.*did you mean 'customer_id'"):
        read_table(path, ["customer_di"])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"a,b\n\xff\xff\xff,2\n", "is not utf-8/gb18030 text"),
        ("a.csv", b"a,b\n1,2,3,4\n", "not a table"),
        ("a.parquet", b"PAR1 nonsense", "not a table"),
    ],
)
def test_what_is_not_a_table_is_refused_with_the_way_out(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["none.csv", "none.parquet"])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_table(tmp_path / name)


def test_without_polars_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtra, match=r"feilun\[files\]"):
        read_table(tmp_path / "a.csv")
