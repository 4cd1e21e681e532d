"""One turn with the real things: LightGBM, MLflow, SQLite and the gateway's own scorer."""

import sys
from pathlib import Path

import numpy as np
import pytest

from feilun.adapters.lightgbm import LightGbmLoader, to_model_text
from feilun.adapters.mlflow import MlflowRegistry
from feilun.adapters.sqlite import SqliteReleases, SqliteTurns
from feilun.flywheel.controller import Controller
from feilun.flywheel.record import turn_record
from feilun.models.bundle import read_bundle

sys.path.insert(0, str(Path(__file__).parent))
import flywheel_world as world


def boost(data):
    lightgbm = pytest.importorskip("lightgbm")
    return lightgbm.LGBMClassifier(
        n_estimators=10, num_leaves=7, random_state=0, n_jobs=1, deterministic=True, verbose=-1
    ).fit(data.x, data.y > 0)


@pytest.fixture
def stores(tmp_path):
    turns = SqliteTurns(tmp_path / "platform.db")
    releases = SqliteReleases(tmp_path / "platform.db")
    yield {"turns": turns, "releases": releases}
    turns.close()
    releases.close()


def test_a_real_turn(tmp_path, stores):
    pytest.importorskip("mlflow")
    registry = MlflowRegistry(tmp_path / "mlflow.db", tmp_path / "mlartifacts")
    shop = world.workshop(
        tmp_path,
        world.shop_log(260),
        project=world.project(world.model(boost)),
        registry=registry,
        convert=to_model_text,
        loaders={LightGbmLoader.format: LightGbmLoader()},
        **stores,
    )
    (turn,) = Controller(shop).run_once()
    record = turn_record(shop.turns, turn)
    assert record["state"] == "promoted", record["reason"]
    release = shop.releases.current("ranker")
    version = registry.get("ranker", "champion")
    assert (version.version, version.bundle) == (release.version, release.bundle)
    bundle, data = read_bundle(shop.bundles, release.bundle)
    assert bundle.trained["cut"] == turn.cut
    scorer = LightGbmLoader().load(data, len(bundle.columns))
    low, high = scorer.score(np.array([[-2, 0], [2, 0]], np.float32))
    assert low < high


def test_the_same_log_gives_the_same_bundle(tmp_path):
    bundles = []
    for name in ("one", "two"):
        shop = world.workshop(
            tmp_path / name,
            world.shop_log(260),
            project=world.project(world.model(boost)),
            convert=to_model_text,
            loaders={LightGbmLoader.format: LightGbmLoader()},
        )
        Controller(shop).run_once()
        bundles.append(shop.releases.current("ranker").bundle)
    assert bundles[0] == bundles[1]
