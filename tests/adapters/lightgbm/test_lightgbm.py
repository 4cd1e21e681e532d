"""LightGBM by its C library: the same numbers, and no damaged text takes the process down."""

import importlib.util
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from feilun.adapters.lightgbm import LightGbmLoader, loader, to_model_text
from feilun.errors import MissingExtra, ModelError, WrongColumns

lightgbm = pytest.importorskip("lightgbm")

COLUMNS = 6
QUIET = {"n_estimators": 8, "num_leaves": 9, "verbose": -1, "n_jobs": 1, "min_child_samples": 5}


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(7)
    x = random.normal(size=(600, COLUMNS)).astype(np.float32)
    x[:, 3] = random.integers(0, 40, len(x))
    x[random.random(x.shape) < 0.1] = np.nan
    y = (np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) ** 2 + (x[:, 3] % 3 == 0) > 0.5) * 1
    return x, y


@pytest.fixture(scope="module")
def estimators(data):
    x, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "classifier": lightgbm.LGBMClassifier(**QUIET).fit(x, y, categorical_feature=[3]),
            "regressor": lightgbm.LGBMRegressor(**QUIET).fit(x, y * 3.7),
            "poisson": lightgbm.LGBMRegressor(objective="poisson", **QUIET).fit(x, y),
            "ranker": lightgbm.LGBMRanker(**QUIET).fit(x, y, group=[60] * 10),
            "constant": lightgbm.LGBMRegressor(**QUIET).fit(x, np.full(len(x), 2.5)),
            "booster": lightgbm.train(
                {"objective": "binary", "verbosity": -1, "num_threads": 1},
                lightgbm.Dataset(x, y),
                12,
            ),
        }


KINDS = ["classifier", "regressor", "poisson", "ranker", "constant", "booster"]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_the_python_package_to_the_bit(estimators, data, kind):
    estimator = estimators[kind]
    booster = getattr(estimator, "booster_", estimator)
    scorer = LightGbmLoader().load(to_model_text(estimator), COLUMNS)
    for rows in (1, 7, len(data[0])):
        x = data[0][:rows].copy()
        assert scorer.score(x).tolist() == booster.predict(x).tolist()
    assert scorer.score(data[0][:0].copy()).tolist() == []


def test_the_best_iteration_is_the_one_that_serves(data):
    x, y = data
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1, "num_threads": 1, "learning_rate": 0.5},
        lightgbm.Dataset(x[:400], y[:400]),
        200,
        valid_sets=[lightgbm.Dataset(x[400:], y[400:])],
        callbacks=[lightgbm.early_stopping(3, verbose=False)],
    )
    assert 0 < booster.best_iteration < 200
    scorer = LightGbmLoader().load(to_model_text(booster), COLUMNS)
    assert scorer.score(x).tolist() == booster.predict(x).tolist()


def test_threads_may_share_a_scorer(estimators, data):
    scorer = LightGbmLoader().load(to_model_text(estimators["classifier"]), COLUMNS)
    expected = scorer.score(data[0])
    wrong = []

    def work():
        wrong.extend(1 for _ in range(50) if not np.array_equal(scorer.score(data[0]), expected))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((3, COLUMNS + 1), np.float32),
        np.zeros((3, COLUMNS), np.float64),
        np.zeros(COLUMNS, np.float32),
        np.zeros((COLUMNS, 3), np.float32).T,
    ],
)
def test_a_matrix_of_another_shape_never_reaches_the_library(estimators, matrix):
    scorer = LightGbmLoader().load(to_model_text(estimators["regressor"]), COLUMNS)
    with pytest.raises(ModelError, match="C-ordered float32"):
        scorer.score(matrix)


def test_another_number_of_columns_is_refused(estimators):
    text = to_model_text(estimators["regressor"])
    with pytest.raises(WrongColumns, match="takes 6 columns, not 5") as refused:
        LightGbmLoader().load(text, COLUMNS - 1)
    assert refused.value.names == ()  # LightGBM made them up
    named = text.replace(b"Column_", b"their_")
    with pytest.raises(WrongColumns) as refused:
        LightGbmLoader().load(named, COLUMNS - 1)
    assert refused.value.names == tuple(f"their_{place}" for place in range(COLUMNS))


def test_a_text_that_ends_early_is_called_so(estimators):
    text = to_model_text(estimators["regressor"])
    end = text.index(b"end of trees")
    for kept in (text.index(b"\n\n") + 2, end // 2, end, end + 5):
        with pytest.raises(ModelError, match=f"it ends early, after {kept} of"):
            LightGbmLoader().load(text[:kept], COLUMNS)


def test_what_is_lacking_is_named_in_plain_letters(estimators):
    text = to_model_text(estimators["regressor"]).replace(b"feature_infos=", b"feature_innos=")
    with pytest.raises(ModelError, match="no feature_infos in it"):
        LightGbmLoader().load(text, COLUMNS)


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04pickle", b"{}", b"tree\n", b"tree\n\n", b"\0" * 99]
)
def test_what_is_no_model_is_refused(data):
    with pytest.raises(ModelError, match="not a sound LightGBM model"):
        LightGbmLoader().load(data, COLUMNS)


def test_what_only_the_library_can_judge_comes_back_as_a_model_error(estimators):
    text = to_model_text(estimators["classifier"]).replace(b"objective=binary", b"objective=banary")
    with pytest.raises(ModelError, match=r"LightGBM refused: .*banary"):
        LightGbmLoader().load(text, COLUMNS)


_FUZZ = """
import pathlib, random, sys
import numpy as np
from feilun.adapters.lightgbm import LightGbmLoader
from feilun.errors import ModelError, WrongColumns

text = pathlib.Path(sys.argv[1]).read_bytes()
loader, matrix = LightGbmLoader(), np.ones((5, 6), np.float32)
loader.load(text, 6).score(matrix)
assert not {"lightgbm", "sklearn", "pandas", "scipy"} & set(sys.modules), "loaded too much"
chance, refused = random.Random(11), 0
for _ in range(3000):
    changed = bytearray(text)
    way = chance.random()
    if way < 0.2:
        del changed[chance.randrange(len(changed)):]
    elif way < 0.6:
        for _ in range(chance.choice([1, 1, 4])):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    elif way < 0.8:
        for _ in range(2):
            changed[chance.randrange(len(changed))] = chance.choice(b"0123456789- .=e")
    else:
        lines = bytes(changed).split(b"\\n")
        a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]
        changed = b"\\n".join(lines)
    try:
        loader.load(bytes(changed), 6).score(matrix)
    except ModelError:
        refused += 1
print(refused)
"""


def test_damaged_text_is_refused_and_never_ends_the_process(estimators, tmp_path):
    path = tmp_path / "model.txt"
    path.write_bytes(to_model_text(estimators["classifier"]))
    done = subprocess.run(
        [sys.executable, "-c", _FUZZ, str(path)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout.split()[-1]) > 1500


class Foreign:
    """Something that is no LightGBM model."""


def test_other_estimators_are_refused_with_the_way_to_convert():
    with pytest.raises(ModelError, match=r"Foreign; the gateway runs LightGBM.*LGBMClassifier"):
        to_model_text(Foreign())


def test_an_untrained_estimator_is_said_to_be():
    with pytest.raises(ModelError, match="not trained"):
        to_model_text(lightgbm.LGBMClassifier())


def test_models_that_cannot_be_served_are_refused_at_training(data):
    x, y = data
    many = lightgbm.train(
        {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1},
        lightgbm.Dataset(x, np.arange(len(x)) % 3),
        2,
    )
    with pytest.raises(ModelError, match="3 numbers a row"):
        to_model_text(many)
    with pytest.raises(ModelError, match="3 numbers a row"):  # also where somebody else trained it
        LightGbmLoader().load(many.model_to_string().encode(), COLUMNS)
    linear = lightgbm.train(
        {"objective": "regression", "linear_tree": True, "verbosity": -1, "num_threads": 1},
        lightgbm.Dataset(np.nan_to_num(x), y, params={"linear_tree": True, "verbosity": -1}),
        2,
    )
    with pytest.raises(ModelError, match="linear"):
        to_model_text(linear)


def test_without_lightgbm_the_hint_is_the_command(estimators, monkeypatch):
    text = to_model_text(estimators["regressor"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    loader._library.cache_clear()
    try:
        with pytest.raises(MissingExtra, match=r"pip install .feilun\[models\]"):
            LightGbmLoader().load(text, COLUMNS)
    finally:
        loader._library.cache_clear()
