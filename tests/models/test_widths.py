"""A column may be several of the matrix: training, bundles and scores agree about the places."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from feilun.definitions.specs import FoldSpec, RequestSpec
from feilun.models import training
from feilun.models.examples import Examples
from feilun.models.training import score, split, train

sys.path.insert(0, str(Path(__file__).parents[1] / "flywheel"))
import flywheel_world as world

FOLD = FoldSpec("last", "click", "look", "vector", (world.USER,), 0, "UTC", dim=3)
LOOK = dataclasses.replace(
    world.FEATURES[0], view="user", name="look", fold=FOLD, dtype="vector", window=None
)
DEVICE = RequestSpec("device", "str")
REQUESTS = 40


def examples(width, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.arange(REQUESTS, dtype=np.int64)
    return Examples(
        features=tuple(f"c{n}" for n in range(width)),
        x=rng.integers(0, 3, (REQUESTS, width)).astype(np.float32),
        y=rng.random(REQUESTS),
        groups=np.ones(REQUESTS, np.int64),
        as_of=rows * 10**9,
        offset=rows,
        version=rows,
        cluster=rows,
        served=np.full(REQUESTS, np.nan),
        place=rows,
    )


@pytest.fixture
def trained(tmp_path):
    seen = []

    def function(data):
        seen.append(data)
        return world.Linear([1.0] * data.x.shape[1])

    spec = world.model(function, columns=(LOOK, DEVICE, world.FEATURES[0]))
    found = train(
        spec,
        "item_id",
        split(examples(5), 1),
        {"request:device": ("a", "b")},
        convert=world.to_bytes,
        root=tmp_path,
        cut=9,
    )
    (data,) = seen
    return spec, found.bundle, data


def test_categories_lie_behind_the_vector(trained):
    _, _, data = trained
    assert data.categorical == (3,)
    assert data.x.shape[1] == 5


def test_columns_are_found_again_in_another_order(trained, tmp_path):
    spec, bundle, _ = trained
    now = dataclasses.replace(spec, columns=(world.FEATURES[0], DEVICE, LOOK))
    assert now.width == 5
    there = examples(5)
    loader = world.LinearLoader()
    loader.load = lambda data, columns: Weighted(json.loads(data), columns)
    loaders = {loader.format: loader}
    codes = {"request:device": ("a", "b", "c")}
    before = score(tmp_path, bundle, loaders, spec, there, categories=codes)
    moved = dataclasses.replace(there, x=there.x[:, [4, 3, 0, 1, 2]])
    np.testing.assert_array_equal(
        score(tmp_path, bundle, loaders, now, moved, categories=codes), before
    )
    assert np.isnan(before[there.x[:, 3] == 2]).all()  # "c" came after the training
    assert np.isfinite(before[there.x[:, 3] < 2]).all()


def test_a_column_that_is_gone_cannot_be_scored(trained, tmp_path):
    spec, bundle, _ = trained
    now = dataclasses.replace(spec, columns=(DEVICE, world.FEATURES[0]))
    assert score(tmp_path, bundle, {}, now, examples(2), categories={}) is None


class Weighted:
    def __init__(self, weights, columns):
        assert len(weights) == columns

    def score(self, x):
        return x.astype(float) @ np.arange(1.0, 6.0)


def test_a_scorer_that_waits_is_asked_about_a_few_rows_at_once(trained, tmp_path, monkeypatch):
    spec, bundle, _ = trained
    sizes = []

    class Counted(Weighted):
        def score(self, x):
            sizes.append(len(x))
            return super().score(x)

    loader = world.LinearLoader()
    loader.load = lambda data, columns: Counted(json.loads(data), columns)
    codes = {"request:device": ("a", "b")}
    there = examples(5)
    whole = score(tmp_path, bundle, {loader.format: loader}, spec, there, categories=codes)
    monkeypatch.setattr(training, "WAITING_ROWS", 15)
    loader.waits = True
    parts = score(tmp_path, bundle, {loader.format: loader}, spec, there, categories=codes)
    np.testing.assert_array_equal(parts, whole)
    assert sizes == [40, 15, 15, 10]
