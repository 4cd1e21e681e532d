"""SQL databases: names are quoted, passwords hidden, nothing is written."""

import sqlite3
from contextlib import closing
from urllib.parse import quote

import pytest

from feilun.errors import ConfigError, InputError, MissingExtra, Unavailable
from feilun.testing.records import START
from feilun.testing.table_source_conformance import QUERY, drain, items

sqlalchemy = pytest.importorskip("sqlalchemy")

from feilun.adapters.sqlalchemy import SqlTableSource  # noqa: E402


def database(folder, *statements):
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return SqlTableSource("warehouse", "sqlite:///shop.db", folder)


def test_names_are_quoted_whatever_they_are(tmp_path):
    name, column = 'sto"ck; DROP TABLE x --', "it'em\"; --"
    quoted = [part.replace('"', '""') for part in (name, column)]
    source = database(
        tmp_path,
        f'CREATE TABLE "{quoted[0]}" ("{quoted[1]}" INTEGER, updated_at INTEGER)',
        f'INSERT INTO "{quoted[0]}" VALUES (7, {START})',
    )
    query = QUERY._replace(table=name, columns=("updated_at", column), optional=())
    (row,), _ = drain(source, query)
    assert row[column] == 7


def test_views_are_tables_too(tmp_path):
    source = database(
        tmp_path,
        f"CREATE VIEW stock AS SELECT 1 AS item, {START} AS updated_at",
    )
    query = QUERY._replace(columns=("updated_at", "item"))
    assert items(drain(source, query)[0]) == [1]
    with pytest.raises(InputError, match="Did you mean 'stock'"):
        drain(source, query._replace(table="stok"))


def test_text_that_is_no_time_keeps_no_row_from_being_read(tmp_path):
    source = database(
        tmp_path,
        "CREATE TABLE stock (item INTEGER, updated_at TEXT)",
        "INSERT INTO stock VALUES (1, '2024-09-01'), (2, 'soon'), (3, '2024-09-03 10:00')",
    )
    query = QUERY._replace(columns=("updated_at", "item"))
    rows, marks = drain_with_bad_times(source, query)
    assert sorted(items(rows)) == [1, 2, 3]
    rows, _ = drain_with_bad_times(source, query, marks)
    assert sorted(items(rows)) == [1, 2, 3]


def drain_with_bad_times(source, query, marks=None):
    rows, kept = [], dict(marks or {})
    for chunk in source.read(query, kept):
        rows += chunk.rows
        kept |= {chunk.part: chunk.mark} if chunk.mark else {}
    return rows, kept


def test_an_empty_table_has_no_rows(tmp_path):
    source = database(tmp_path, "CREATE TABLE stock (item INTEGER, updated_at TEXT)")
    assert drain(source, QUERY._replace(columns=("updated_at", "item"))) == ([], {})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense s3cret", "is not a database's URL"),
        ("nodialect://u:s3cret@host/x", "knows no nodialect"),
        ("oracle+cx_oracle://u:s3cret@host/x", "the driver of oracle"),
        ("sqlite:///nowhere.db", "there is no file"),
    ],
)
def test_a_wrong_url_is_said_without_its_password(tmp_path, url, said):
    with pytest.raises(ConfigError) as caught:
        SqlTableSource("warehouse", url, tmp_path)
    assert said in caught.value.message
    assert "[sources.warehouse] url" in caught.value.message
    assert "s3cret" not in str(caught.value)


def test_a_missing_library_says_how_to_install_it(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtra, match=r"feilun\[sql\]"):
        SqlTableSource("warehouse", "sqlite://", tmp_path)


def test_a_database_that_is_not_one_is_unavailable(tmp_path):
    (tmp_path / "shop.db").write_text("nonsense" * 1_000)
    source = SqlTableSource("warehouse", "sqlite:///shop.db", tmp_path)
    with pytest.raises(Unavailable, match="warehouse failed while stock was read"):
        drain(source, QUERY)


def test_postgres_is_only_read_and_hides_its_password(postgres, tmp_path):
    engine = sqlalchemy.create_engine(postgres)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE secret (item int, updated_at timestamptz)")
        connection.exec_driver_sql("CREATE SEQUENCE counter")
        connection.exec_driver_sql(
            "CREATE VIEW writes AS SELECT nextval('counter')::int AS item, now() AS updated_at"
        )
        connection.exec_driver_sql("CREATE ROLE guest LOGIN PASSWORD 'gu€st'")
    engine.dispose()
    query = QUERY._replace(table="writes", columns=("updated_at", "item"), until=2**61)
    with pytest.raises(Unavailable, match="read-only transaction"):
        drain(SqlTableSource("warehouse", postgres, tmp_path), query)

    url = sqlalchemy.make_url(postgres)
    guest = url.set(username="guest", password="gu€st").render_as_string(hide_password=False)
    with pytest.raises(InputError, match="permission denied") as caught:
        drain(SqlTableSource("warehouse", guest, tmp_path), query._replace(table="secret"))
    assert "gu€st" not in str(caught.value)

    wrong = url.set(password="wr0ng/wörd").render_as_string(hide_password=False)
    with pytest.raises(Unavailable, match="authentication failed") as caught:
        drain(SqlTableSource("warehouse", wrong, tmp_path), query)
    for text in ("wr0ng/wörd", quote("wr0ng/wörd", safe="")):
        assert text not in str(caught.value)
