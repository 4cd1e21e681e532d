"""Every source of tables passes the same exam."""

import os
from datetime import UTC

import pytest

from feilun.adapters.files import FilesTableSource
from feilun.testing.records import START
from feilun.testing.table_fakes import InMemoryTables
from feilun.testing.table_source_conformance import QUERY, TableSourceExam, drain, items, row

sqlalchemy = pytest.importorskip("sqlalchemy")
polars = pytest.importorskip("polars")


class TestInMemory(TableSourceExam):
    def make(self, folder):
        self.tables = {}
        return InMemoryTables(self.tables)

    def put(self, folder, rows):
        self.tables.setdefault("stock", []).extend(rows)

    def test_the_first_read_finds_every_row_once(self, source, tmp_path):
        self.put(tmp_path, [row(n, n) for n in range(5)])
        assert items(drain(source, self.query)[0]) == list(range(5))


class FilesExam(TableSourceExam):
    suffix = ""

    def make(self, folder):
        return FilesTableSource("warehouse", f"exports/{{table}}/*{self.suffix}", folder)

    def put(self, folder, rows):
        place = folder / "exports" / "stock"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{len(list(place.iterdir())):03}{self.suffix}"
        self.write(path, rows)
        os.utime(path, (START / 1e6, START / 1e6))


class TestParquet(FilesExam):
    suffix = ".parquet"

    def write(self, path, rows):
        frame = polars.DataFrame(rows, schema_overrides={"note": polars.String})
        frame.write_parquet(path)


class TestCsv(FilesExam):
    suffix = ".csv"

    def write(self, path, rows):
        path.write_text(as_csv(rows), encoding="utf-8")


class TestGb18030(FilesExam):
    suffix = ".csv"

    def write(self, path, rows):
        path.write_text(as_csv(rows), encoding="gb18030")


def as_csv(rows):
    lines = [",".join(rows[0])]
    for each in rows:
        cells = {**each, "updated_at": each["updated_at"] and each["updated_at"].isoformat(" ")}
        lines.append(",".join("" if cell is None else str(cell) for cell in cells.values()))
    return "\n".join(lines) + "\n"


class SqlExam(TableSourceExam):
    schema = None
    time_type = sqlalchemy.DateTime(timezone=True)

    def url(self, folder):
        path = folder / "shop.db"
        path.touch()
        return f"sqlite:///{path}"

    def make(self, folder):
        from feilun.adapters.sqlalchemy import SqlTableSource

        self.engine = sqlalchemy.create_engine(self.url(folder), poolclass=sqlalchemy.NullPool)
        self.table = sqlalchemy.Table(
            "stock",
            sqlalchemy.MetaData(schema=self.schema),
            sqlalchemy.Column("item", sqlalchemy.Integer),
            sqlalchemy.Column("商品 quantity", sqlalchemy.Integer),
            sqlalchemy.Column("note", sqlalchemy.Text),
            sqlalchemy.Column("unused", sqlalchemy.Float),
            sqlalchemy.Column("updated_at", self.time_type),
        )
        return SqlTableSource("warehouse", self.url(folder), folder)

    def put(self, folder, rows):
        with self.engine.begin() as connection:
            if self.schema and not sqlalchemy.inspect(connection).has_schema(self.schema):
                connection.execute(sqlalchemy.schema.CreateSchema(self.schema))
            self.table.create(connection, checkfirst=True)
            connection.execute(self.table.insert(), [self.written(each) for each in rows])

    def written(self, each):
        when = each["updated_at"]
        return {**each, "updated_at": when if when is None else self.time(when)}

    def time(self, when):
        return when


class TestSqliteTimes(SqlExam):
    time_type = sqlalchemy.DateTime()


class TestSqliteText(SqlExam):
    time_type = sqlalchemy.Text()

    def time(self, when):
        return when.isoformat()


class TestSqliteTextWithZ(SqlExam):
    time_type = sqlalchemy.Text()

    def time(self, when):
        return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class TestSqliteNumbers(SqlExam):
    time_type = sqlalchemy.BigInteger()

    def time(self, when):
        return round(when.timestamp() * 1e6)


class PostgresExam(SqlExam):
    @pytest.fixture(autouse=True)
    def server(self, postgres):
        self._url = postgres
        yield
        with self.engine.begin() as connection:
            self.table.drop(connection, checkfirst=True)

    def url(self, folder):
        return self._url

    @pytest.fixture
    def source(self, server, tmp_path):
        source = self.make(tmp_path)
        yield source
        source.close()


class TestPostgresWithZones(PostgresExam):
    pass


class TestPostgresWithoutZones(PostgresExam):
    time_type = sqlalchemy.DateTime()

    def time(self, when):
        return when.replace(tzinfo=None)


class TestPostgresInASchema(PostgresExam):
    schema = "Shop 商店"

    query = QUERY._replace(table="Shop 商店.stock")


class TestIceberg(TableSourceExam):
    query = QUERY._replace(table="shop.stock")

    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("pyiceberg")

    def make(self, folder):
        from pyiceberg.catalog import load_catalog

        from feilun.adapters.iceberg_source import IcebergTableSource

        properties = {
            "type": "sql",
            "uri": f"sqlite:///{folder}/catalog.db",
            "warehouse": f"file://{folder}/warehouse",
        }
        self.catalog = load_catalog("theirs", **properties)
        return IcebergTableSource("warehouse", "theirs", properties)

    @pytest.fixture
    def source(self, tmp_path):
        source = self.make(tmp_path)
        yield source
        source.close()
        self.catalog.close()

    def put(self, folder, rows):
        import pyarrow as pa

        schema = pa.schema(
            {
                "item": pa.int64(),
                "商品 quantity": pa.int64(),
                "note": pa.string(),
                "unused": pa.float64(),
                "updated_at": self.time_type(pa),
            }
        )
        rows = pa.Table.from_pylist([self.written(each) for each in rows], schema=schema)
        self.catalog.create_namespace_if_not_exists("shop")
        self.catalog.create_table_if_not_exists("shop.stock", schema).append(rows)

    def time_type(self, pa):
        return pa.timestamp("us", tz="UTC")

    def written(self, each):
        return each


class TestIcebergText(TestIceberg):
    """Times that rows cannot be chosen by: all are read, each time."""

    def time_type(self, pa):
        return pa.string()

    def written(self, each):
        when = each["updated_at"]
        return {**each, "updated_at": when and when.astimezone(UTC).isoformat()}
