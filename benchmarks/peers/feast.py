"""Feast: precomputed values served from SQLite, and joined from Parquet by its local engine.

Feast computes no window here: it is handed each value ready, and only finds it again.
"""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

os.environ["FEAST_USAGE"] = "False"

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64

from benchmarks.data import load
from benchmarks.protocol import latencies, serve, timed

VIEW = "user_profile"
_WRITE = 2_000
_stores: dict[str, FeatureStore] = {}
_spines: dict[str, pd.DataFrame] = {}


def open_online(folder: str, rows: list[dict[str, Any]]) -> str:
    """Write rows of ``user_id`` and values to the online store; return the store's name."""
    table = pd.DataFrame(rows).assign(event_timestamp=datetime.now(UTC))
    root, store = _store(folder, table)
    for first in range(0, len(table), _WRITE):
        store.write_to_online_store(VIEW, df=table.iloc[first : first + _WRITE])
    return root


def online_values(name: str, keys: list[int]) -> list[dict[str, Any]]:
    """Return the values of each key, by feature name."""
    columns = ask_of(name)(keys)
    return [
        {feature: values[place] for feature, values in columns.items() if feature != "user_id"}
        for place in range(len(keys))
    ]


def online_latency(name: str, requests: list[list[int]]) -> dict[str, float]:
    """Time ``get_online_features(…).to_dict()``; each request names the keys it asks for."""
    ask = ask_of(name)
    ask(requests[0])
    return latencies(ask, requests)


def open_history(folder: str, table: str, spine: str) -> str:
    """Take a table of values with the times from which they held as Feast's source.

    Parameters
    ----------
    folder : str
        Where the store is made.
    table : str
        Columns ``user_id``, ``time`` and one a feature.
    spine : str
        Columns ``user_id`` and ``as_of``; no two rows are equal.

    Returns
    -------
    str
        The store's name.
    """
    root, _ = _store(folder, _frame(load(table), "time"))
    _spines[root] = _frame(load(spine), "as_of")
    return root


def history(name: str, out: str) -> dict[str, float]:
    """Join the values to the spine at each row's time; write one ``.npy`` file a feature."""
    asked, store = _spines[name], _stores[name]
    found: list[pd.DataFrame] = []

    def join() -> None:
        job = store.get_historical_features(entity_df=asked, features=_features(store))
        found.append(job.to_df())

    spent = timed(join)
    keys = list(asked.columns)
    result = asked.merge(found[0], on=keys, how="left", validate="one_to_one")
    for column in result.columns.difference(keys):
        np.save(Path(out) / f"{column}.npy", result[column].to_numpy(np.float64))
    return {**spent, "rows": len(asked)}


def _frame(columns: dict[str, Any], time: str) -> pd.DataFrame:
    times = pd.to_datetime(columns.pop(time), unit="us", utc=True)
    return pd.DataFrame({"event_timestamp": times, **columns})


def _store(folder: str, table: pd.DataFrame) -> tuple[str, FeatureStore]:
    root = Path(tempfile.mkdtemp(prefix="feast-", dir=folder))
    table.to_parquet(root / "values.parquet")
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(root / "registry.db"),
        online_store={"type": "sqlite", "path": str(root / "online.db")},
        offline_store={"type": "file"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    user = Entity(name="user_id", value_type=ValueType.INT64)
    values = table.columns.difference(["user_id", "event_timestamp"])
    view = FeatureView(
        name=VIEW,
        entities=[user],
        ttl=timedelta(days=3650),
        schema=[
            Field(name=name, dtype=Int64 if table[name].dtype == np.int64 else Float64)
            for name in values
        ],
        source=FileSource(path=str(root / "values.parquet"), timestamp_field="event_timestamp"),
    )
    store.apply([user, view])
    _stores[str(root)] = store
    return str(root), store


def _features(store: FeatureStore) -> list[str]:
    return [f"{VIEW}:{field.name}" for field in store.get_feature_view(VIEW).features]


def ask_of(name: str) -> Any:
    """Return what asks the store ``name`` for all features of some users."""
    store = _stores[name]
    features = _features(store)

    def ask(keys: list[int]) -> dict[str, list[Any]]:
        rows = [{"user_id": key} for key in keys]
        values: dict[str, list[Any]] = store.get_online_features(
            features=features, entity_rows=rows
        ).to_dict()
        return values

    return ask


if __name__ == "__main__":
    serve(
        {
            "open_online": open_online,
            "online_values": online_values,
            "online_latency": online_latency,
            "open_history": open_history,
            "history": history,
        }
    )
