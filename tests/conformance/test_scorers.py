"""Every loader of models passes the same exam."""

from __future__ import annotations

import json
import warnings
from functools import cache

import numpy as np
import pytest

from feilun.adapters.lightgbm import LightGbmLoader, to_model_text
from feilun.adapters.onnx import OnnxLoader
from feilun.adapters.xgboost import XgboostLoader
from feilun.testing.platform_fakes import LinearLoader
from feilun.testing.scorer_conformance import COLUMNS, Sample, ScorerLoaderExam


@cache
def rows(missing=True):
    random = np.random.default_rng(3)
    x = random.normal(size=(300, COLUMNS)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] ** 2 + random.normal(0, 0.1, len(x)) > 0.7) * 1
    if missing:
        x[random.random(x.shape) < 0.1] = np.nan
    return x, y


class TestLinear(ScorerLoaderExam):
    def make(self):
        return LinearLoader()

    def sample(self):
        x, _ = rows(missing=False)
        weights = np.arange(1.0, COLUMNS + 1)
        return Sample(json.dumps(weights.tolist()).encode(), x, x.astype(float) @ weights)


class TestLightGbm(ScorerLoaderExam):
    def make(self):
        return LightGbmLoader()

    def sample(self):
        lightgbm = pytest.importorskip("lightgbm")
        x, y = rows()
        data = lightgbm.Dataset(x, y, feature_name=["a", "b", "c", "d"])
        booster = lightgbm.train({"objective": "binary", "verbosity": -1}, data, 10)
        return Sample(to_model_text(booster), x, booster.predict(x), ("a", "b", "c", "d"))


class XgboostExam(ScorerLoaderExam):
    def make(self):
        return XgboostLoader()

    def sample(self):
        xgboost = pytest.importorskip("xgboost")
        x, y = rows()
        data = xgboost.DMatrix(x, y, feature_names=["a", "b", "c", "d"])
        settings = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
        booster = xgboost.train(settings, data, 10)
        saved = bytes(booster.save_raw(self.raw))
        return Sample(saved, x, booster.predict(data).astype(float), ("a", "b", "c", "d"))


class TestXgboostUbjson(XgboostExam):
    raw = "ubj"


class TestXgboostJson(XgboostExam):
    raw = "json"


class OnnxExam(ScorerLoaderExam):
    def make(self):
        pytest.importorskip("onnxruntime")
        return OnnxLoader()

    def convert(self, estimator, x, **options):
        skl2onnx = pytest.importorskip("skl2onnx")
        kind = skl2onnx.common.data_types.FloatTensorType([None, COLUMNS])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = skl2onnx.convert_sklearn(estimator, initial_types=[("x", kind)], **options)
        return made.SerializeToString()


class TestOnnxRegression(OnnxExam):
    def sample(self):
        from sklearn.linear_model import LinearRegression

        x, y = rows(missing=False)
        fitted = LinearRegression().fit(x, y)
        return Sample(self.convert(fitted, x), x, fitted.predict(x), close=1e-3)


class TestOnnxProbabilities(OnnxExam):
    def sample(self):
        from sklearn.ensemble import GradientBoostingClassifier

        x, y = rows(missing=False)
        fitted = GradientBoostingClassifier(n_estimators=8, random_state=0).fit(x, y)
        data = self.convert(fitted, x, options={"zipmap": False})
        return Sample(data, x, fitted.predict_proba(x)[:, 1], close=1e-4)


class TestOnnxMaps(OnnxExam):
    """Probabilities as mappings, which is what scikit-learn's converter writes by itself."""

    def sample(self):
        from sklearn.linear_model import LogisticRegression

        x, y = rows(missing=False)
        fitted = LogisticRegression().fit(x, y)
        return Sample(self.convert(fitted, x), x, fitted.predict_proba(x)[:, 1], close=1e-4)


class TestOnnxByHand(OnnxExam):
    """A graph that puts something in the place of what is missing."""

    def sample(self):
        onnx = pytest.importorskip("onnx")
        helper, floats = onnx.helper, onnx.TensorProto.FLOAT
        weights = np.arange(1.0, COLUMNS + 1, dtype=np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("IsNaN", ["x"], ["missing"]),
                helper.make_node("Where", ["missing", "nothing", "x"], ["filled"]),
                helper.make_node("MatMul", ["filled", "weights"], ["score"]),
            ],
            "linear",
            [helper.make_tensor_value_info("x", floats, ["rows", COLUMNS])],
            [helper.make_tensor_value_info("score", floats, ["rows"])],
            [
                helper.make_tensor("nothing", floats, [], [0.5]),
                helper.make_tensor("weights", floats, [COLUMNS], weights),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        x, _ = rows()
        expected = np.nan_to_num(x, nan=0.5).astype(float) @ weights
        return Sample(model.SerializeToString(), x, expected, close=1e-4)
