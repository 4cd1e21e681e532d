"""Tables of an Iceberg catalog of the user's own, through PyIceberg."""

from feilun.adapters.iceberg_source.table_source import IcebergTableSource

__all__ = ["IcebergTableSource"]
