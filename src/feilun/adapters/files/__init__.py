"""Tables from files, by Polars: whole ones to import, and folders of them to synchronise."""

from feilun.adapters.files.table import read_table
from feilun.adapters.files.table_source import FilesTableSource

__all__ = ["FilesTableSource", "read_table"]
