"""Tables of SQL databases, through SQLAlchemy."""

from feilun.adapters.sqlalchemy.table_source import SqlTableSource

__all__ = ["SqlTableSource"]
