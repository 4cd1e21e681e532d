"""Every lake takes the same exam."""

from __future__ import annotations

from pathlib import Path

import pytest

from feilun.ports.lake import Lake
from feilun.testing.lake_conformance import LakeConformance
from feilun.testing.lake_fakes import MemoryLake


class TestMemoryLake(LakeConformance):
    def open(self, folder: Path) -> Lake:
        return MemoryLake()


class TestIcebergLake(LakeConformance):
    def open(self, folder: Path) -> Lake:
        pytest.importorskip("pyiceberg")
        from feilun.adapters.iceberg import IcebergLake

        return IcebergLake(folder)
