"""XGBoost by its C library: the same numbers, and no damaged document takes the process down."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from feilun.adapters.xgboost import XgboostLoader, loader
from feilun.errors import MissingExtra, ModelError

xgboost = pytest.importorskip("xgboost")

COLUMNS = 4
QUIET = {"n_estimators": 8, "max_depth": 3, "n_jobs": 1, "random_state": 0}


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(7)
    x = random.normal(size=(500, COLUMNS)).astype(np.float32)
    x[:, 3] = random.integers(0, 12, len(x))
    x[random.random(x.shape) < 0.1] = np.nan
    y = (np.nan_to_num(x[:, 0]) + (x[:, 3] % 3 == 0) > 0.5) * 1
    return x, y


def booster(data, rounds=6, categorical=False, **settings):
    kinds = ["q"] * (COLUMNS - 1) + ["c" if categorical else "q"]
    matrix = xgboost.DMatrix(*data, feature_types=kinds, enable_categorical=categorical)
    defaults = {"objective": "binary:logistic", "nthread": 1, "verbosity": 0}
    return xgboost.train(defaults | settings, matrix, rounds), matrix


KINDS = {
    "logistic": {},
    "margin": {"objective": "binary:logitraw"},
    "regression": {"objective": "reg:squarederror"},
    "poisson": {"objective": "count:poisson"},
    "forest": {"num_parallel_tree": 3, "subsample": 0.7},
    "categories": {"categorical": True, "max_cat_to_onehot": 1},
    "one hot": {"categorical": True, "max_cat_to_onehot": 100},
}


@pytest.mark.parametrize("raw", ["ubj", "json"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_the_python_package_to_the_bit(data, kind, raw):
    made, matrix = booster(data, **KINDS[kind])
    scorer = XgboostLoader().load(bytes(made.save_raw(raw)), COLUMNS)
    assert scorer.score(data[0]).tolist() == made.predict(matrix).astype(float).tolist()


def test_the_best_iteration_is_the_one_that_scores(data):
    x, y = data
    fitted = xgboost.XGBClassifier(**(QUIET | {"n_estimators": 200}), early_stopping_rounds=3)
    fitted.fit(x[:300], y[:300], eval_set=[(x[300:], y[300:])], verbose=False)
    assert 0 < fitted.best_iteration < fitted.get_booster().num_boosted_rounds() - 1
    scorer = XgboostLoader().load(bytes(fitted.get_booster().save_raw()), COLUMNS)
    assert scorer.score(x).tolist() == fitted.predict_proba(x)[:, 1].astype(float).tolist()


def test_what_gives_several_numbers_is_refused(data):
    x, y = data
    several = xgboost.XGBClassifier(**QUIET).fit(x, np.arange(len(y)) % 3)
    with pytest.raises(ModelError, match="several numbers a row"):
        XgboostLoader().load(bytes(several.get_booster().save_raw()), COLUMNS)
    targets = xgboost.XGBRegressor(**QUIET).fit(x, np.stack([y, y], axis=1))
    with pytest.raises(ModelError, match="several numbers a row"):
        XgboostLoader().load(bytes(targets.get_booster().save_raw()), COLUMNS)


@pytest.mark.parametrize("name", ["gblinear", "dart"])
def test_other_boosters_are_refused(data, name):
    made, _ = booster((np.nan_to_num(data[0]), data[1]), booster=name)
    with pytest.raises(ModelError, match=f"'{name}' is not gbtree"):
        XgboostLoader().load(bytes(made.save_raw()), COLUMNS)


def test_what_only_the_library_can_judge_comes_back_as_a_model_error(data):
    made, _ = booster(data)
    text = bytes(made.save_raw("json")).replace(b"binary:logistic", b"binary:logistoc")
    with pytest.raises(ModelError, match=r"XGBoost refused: .*logistoc"):
        XgboostLoader().load(text, COLUMNS)


def tree_of(document):
    return document["learner"]["gradient_booster"]["model"]["trees"][0]


DAMAGES = {
    "a child outside": lambda tree: tree["left_children"].__setitem__(0, 9_999_999),
    "a circle": lambda tree: tree["left_children"].__setitem__(0, 0),
    "a column outside": lambda tree: tree["split_indices"].__setitem__(0, COLUMNS),
    "a negative column": lambda tree: tree["split_indices"].__setitem__(0, -5),
    "a short array": lambda tree: tree["split_conditions"].pop(),
    "fewer nodes": lambda tree: tree["tree_param"].__setitem__("num_nodes", "2"),
    "a set outside": lambda tree: tree["categories_sizes"].__setitem__(0, 1_000),
    "a huge category": lambda tree: tree["categories"].__setitem__(0, 1 << 40),
    "a set of nobody": lambda tree: tree["categories_nodes"].__setitem__(0, 10_000),
    "a split by text": lambda tree: tree["split_conditions"].__setitem__(0, "1"),
    "a float child": lambda tree: tree["left_children"].__setitem__(0, 1.5),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_the_library_would_follow_is_refused_before(data, damage):
    made, _ = booster(data, categorical=True, max_cat_to_onehot=1, max_depth=4)
    document = json.loads(made.save_raw("json"))
    trees = document["learner"]["gradient_booster"]["model"]["trees"]
    trees.sort(key=lambda tree: -len(tree["categories"]))
    assert tree_of(document)["categories"]
    XgboostLoader().load(json.dumps(document).encode(), COLUMNS)
    DAMAGES[damage](tree_of(document))
    with pytest.raises(ModelError, match="not a sound XGBoost model"):
        XgboostLoader().load(json.dumps(document).encode(), COLUMNS)


def test_a_name_that_comes_twice_is_refused(data):
    text = b'{"learner": {}, ' + bytes(booster(data)[0].save_raw("json"))[1:]
    with pytest.raises(ModelError, match="a name comes twice"):
        XgboostLoader().load(text, COLUMNS)


_FUZZ = """
import pathlib, random, sys
import numpy as np
from feilun.adapters.xgboost import XgboostLoader
from feilun.errors import ModelError

loader, matrix = XgboostLoader(), np.ones((5, 4), np.float32)
chance, refused = random.Random(11), 0
for path in sys.argv[1:]:
    whole = pathlib.Path(path).read_bytes()
    loader.load(whole, 4).score(matrix)
    for _ in range(1000):
        changed = bytearray(whole)
        way = chance.random()
        if way < 0.2:
            del changed[chance.randrange(len(changed)):]
        elif way < 0.7:
            for _ in range(chance.choice([1, 1, 4])):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        elif way < 0.85:
            for _ in range(2):
                changed[chance.randrange(len(changed))] = chance.choice(b"0123456789-.eE]}[{")
        else:
            place = chance.randrange(len(changed))
            del changed[place : place + chance.randrange(1, 40)]
        try:
            loader.load(bytes(changed), 4).score(matrix)
        except ModelError:
            refused += 1
assert not {"xgboost", "sklearn", "pandas", "scipy"} & set(sys.modules), "loaded too much"
print(refused)
"""


def test_no_damaged_document_ends_the_process(data, tmp_path):
    made, _ = booster(data, rounds=2, categorical=True, max_cat_to_onehot=1)
    paths = []
    for raw in ("ubj", "json"):
        paths.append(tmp_path / f"model.{raw}")
        paths[-1].write_bytes(bytes(made.save_raw(raw)))
    done = subprocess.run(
        [sys.executable, "-c", _FUZZ, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 500


def test_without_the_package_it_says_how_to_install_it(data, monkeypatch):
    raw = bytes(booster(data)[0].save_raw())
    loader._library.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"feilun\[xgboost\]"):
        XgboostLoader().load(raw, COLUMNS)
    loader._library.cache_clear()
