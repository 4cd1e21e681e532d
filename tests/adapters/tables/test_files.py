"""Folders of files: which are read again, and what a broken one costs."""

import os

import pytest

from feilun.adapters.files import FilesTableSource
from feilun.errors import InputError
from feilun.ports.table_source import CHUNK_ROWS
from feilun.testing.records import START
from feilun.testing.table_source_conformance import QUERY, drain, items

SIMPLE = QUERY._replace(columns=("updated_at", "item"), optional=())


def put(folder, name, text, *, age=60, encoding="utf-8"):
    path = folder / "exports" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding=encoding)
    seconds = SIMPLE.until / 1e6 - age
    os.utime(path, (seconds, seconds))
    return path


def table(*rows):
    return "item,updated_at\n" + "".join(f"{item},{when}\n" for item, when in rows)


@pytest.fixture
def source(tmp_path):
    return FilesTableSource("warehouse", "exports/{table}*", tmp_path)


def test_an_unchanged_file_is_not_opened_again(source, tmp_path):
    put(tmp_path, "stock.csv", table((1, "2024-01-01")))
    rows, marks = drain(source, SIMPLE)
    assert items(rows) == [1]
    assert drain(source, SIMPLE, marks) == ([], marks)


def test_a_changed_file_is_read_as_a_whole(source, tmp_path):
    put(tmp_path, "stock.csv", table((1, "2024-01-01")))
    put(tmp_path, "stock2.csv", table((5, "2024-01-01")))
    _, marks = drain(source, SIMPLE)
    put(tmp_path, "stock.csv", table((1, "2024-01-01"), (2, "2024-01-02")), age=30)
    assert items(drain(source, SIMPLE, marks)[0]) == [1, 2]


def test_a_file_that_has_just_changed_is_read_once_more(source, tmp_path):
    put(tmp_path, "stock.csv", table((1, "2024-01-01")), age=0)
    rows, marks = drain(source, SIMPLE)
    assert (items(rows), marks) == ([1], {})


def test_a_broken_file_costs_no_other_and_is_said(source, tmp_path):
    put(tmp_path, "stock1.csv", "")
    put(tmp_path, "stock2.csv", table((2, "2024-01-01")))
    put(tmp_path, "stock3.parquet", "PAR1 half a file")
    found, marks = [], {}
    with pytest.raises(InputError, match=r"stock1.csv is empty.* \(1 more files"):
        for chunk in source.read(SIMPLE, {}):
            found += items(chunk.rows)
            marks |= {chunk.part: chunk.mark} if chunk.mark else {}
    assert found == [2]
    assert [part.rpartition("/")[2] for part in marks] == ["stock2.csv"]


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("item,updated_at\n1\n", "utf-8", "line 2, has 1 cells where its header has 2"),
        ("item,updated_at\n1,2,3\n", "utf-8", "line 2, has 3 cells"),
        ('item,updated_at\n"1"x,2\n', "utf-8", "line 2, is not CSV"),
        ("itm,updated_at\n1,2\n", "utf-8", "no column 'item'. Did you mean 'itm'"),
        ("item,updated_at\n1,2\n", "utf-16", "UTF-16"),
        ("item,updated_at\né,2\n", "latin-1", "is not gb18030 text"),
    ],
)
def test_what_is_no_table_is_said(source, tmp_path, text, encoding, said):
    put(tmp_path, "stock.csv", text, encoding=encoding)
    with pytest.raises(InputError) as caught:
        drain(source, SIMPLE)
    assert said in str(caught.value)


def test_csv_as_spreadsheets_write_it(source, tmp_path):
    text = 'updated_at,商品,note,item\n\n2024-01-01,"a, ""b""\nc",,7\n'
    put(tmp_path, "stock.csv", text, encoding="utf-8-sig")
    query = SIMPLE._replace(optional=("商品", "note", "none"))
    (row,), _ = drain(source, query)
    assert row == {"updated_at": "2024-01-01", "item": "7", "商品": 'a, "b"\nc', "note": None}


def test_a_path_is_a_pattern_and_its_folder_is_not(tmp_path):
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    put(folder, "stock.csv", table((1, "2024-01-01")))
    put(folder, "other.csv", table((2, "2024-01-01")))
    source = FilesTableSource("warehouse", "exports/{table}.*", folder)
    assert items(drain(source, SIMPLE)[0]) == [1]
    with pytest.raises(InputError, match="has no files of 'sto\\*'"):
        drain(source, SIMPLE._replace(table="sto*"))


def test_a_large_parquet_file_comes_in_chunks(source, tmp_path):
    polars = pytest.importorskip("polars")
    path = put(tmp_path, "stock.parquet", "")
    count = CHUNK_ROWS * 3 + 1
    frame = polars.DataFrame({"item": range(count), "updated_at": [START] * count})
    frame.write_parquet(path, row_group_size=count)
    sizes = [len(chunk.rows) for chunk in source.read(SIMPLE, {})]
    assert (sum(sizes), max(sizes)) == (count, CHUNK_ROWS)
