"""What the gateway's benchmarks serve: a model, and Feilun's platform. Run as a worker."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from benchmarks.data import DAY, Shape
from benchmarks.ours import bodies, project_of
from benchmarks.protocol import serve
from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
from feilun.adapters.sqlite import SqliteReleases
from feilun.clock import SystemClock
from feilun.definitions.specs import Project
from feilun.events.collector import Collector
from feilun.features.engine import Engine
from feilun.features.online import OnlineReader
from feilun.models.bundle import Bundle, columns_of, scorer_file, write_bundle

PROJECT = "scoring"
VIEW = "user_profile"
SPAN = 30 * DAY
TREES = 100
COLUMNS = 10
ROWS = 20_000


def train(folder: str) -> str:
    """Train the one model that everybody serves; return its file."""
    random = np.random.default_rng(3)
    x = random.lognormal(3, 2, (ROWS, COLUMNS)).astype(np.float32)
    chance = 1 / (1 + np.exp(-np.log(x[:, 0] + 1) + np.log(x[:, 1] + 1)))
    y = random.random(ROWS) < chance
    model = lightgbm.train(
        {"objective": "binary", "num_leaves": 31, "verbosity": -1, "seed": 1, "num_threads": 1},
        lightgbm.Dataset(x, y),
        TREES,
    )
    path = Path(folder) / "model.txt"
    model.save_model(path)
    return str(path)


def build(folder: str, model: str, events: int, users: int) -> str:
    """Make a platform's data: a month of events up to now, folded, and a released model.

    Returns
    -------
    str
        The folder, to be copied to where a platform runs.
    """
    data = Path(folder) / "data"
    project = project_of(PROJECT)
    with (
        closing(LmdbEventLog(data / "log")) as log,
        closing(LmdbOnlineStore(data / "tiles")) as store,
    ):
        collector = Collector(project, log, SystemClock(), mode="request")
        found = Shape(events=events, users=users, span=SPAN).all()
        found["time"] = found["time"] + (time.time_ns() // 1000 - int(found["time"][-1]) - 1)
        for body in bodies(found):
            collector.accept("bench", body)
        engine = Engine(project, log, store)
        while engine.run_once(100_000):
            pass
    _release(project, data, Path(model).read_bytes())
    return str(data)


def _release(project: Project, data: Path, text: bytes) -> None:
    with closing(SqliteReleases(data / "platform.db")) as releases:
        for capability in project.capabilities.values():
            model = project.models[capability.model]
            bundle = Bundle(
                model=model.name,
                columns=columns_of(model, {}),
                item=capability.item,
                scorer=scorer_file(text),
                metric=model.metric,
                trained={},
                definition_digest=model.definition_digest,
            )
            digest = write_bundle(data / "bundles", bundle, text)
            if releases.current(model.name) is None:
                releases.append(
                    model.name, 1, digest, action="promote", offset=0, at=1, turn=None, by="bench"
                )


def values(data: str, users: int) -> list[dict[str, Any]]:
    """Return the features of those users now of whom none is missing: Feast has no word for it."""
    project = project_of(PROJECT)
    features = project.views[VIEW].features
    with closing(LmdbOnlineStore(Path(data) / "tiles")) as store:
        reader = OnlineReader(project, store)
        with reader.snapshot() as snapshot:
            as_of = max(time.time_ns() // 1000, snapshot.mark.time + 1)
            read = snapshot.read(features, {}, "user_id", list(range(users)), as_of)
    whole = np.logical_and.reduce([read[f.address].present for f in features])
    columns = {f.name: read[f.address].values.astype(float)[whole].tolist() for f in features}
    names = ("user_id", *columns)
    rows = zip(np.flatnonzero(whole).tolist(), *columns.values(), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def predict(model: str, rows: list[list[float]]) -> list[float]:
    """Return what the model says of rows, by LightGBM itself."""
    booster = lightgbm.Booster(model_file=model)
    found: list[float] = booster.predict(np.array(rows, np.float32)).tolist()
    return found


def place(data: str, root: str) -> None:
    """Copy a platform's data to where it will run."""
    shutil.copytree(data, Path(root) / ".feilun", dirs_exist_ok=True)


if __name__ == "__main__":
    serve(
        {
            "train": train,
            "build": build,
            "values": values,
            "predict": predict,
            "place": place,
        }
    )
