"""Tables of the user's own: CSV and Parquet files, read with Polars."""

from feilun.adapters.files.table import read_table

__all__ = ["read_table"]
