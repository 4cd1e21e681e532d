"""What the lake's own tests share: they are skipped where PyIceberg is not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyiceberg")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Open the lake of one folder again and again, as after a crash."""
    from feilun.adapters.iceberg import IcebergLake

    lakes = []

    def open_again() -> Any:
        lakes.append(IcebergLake(tmp_path / "lake"))
        return lakes[-1]

    yield open_again
    for lake in lakes:
        lake.close()
