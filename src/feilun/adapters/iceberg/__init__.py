"""The lake on Apache Iceberg: Parquet files on a local disk, a catalogue in SQLite."""

from feilun.adapters.iceberg.lake import IcebergLake

__all__ = ["IcebergLake"]
