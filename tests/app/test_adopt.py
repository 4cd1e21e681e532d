"""A model that somebody else has trained, in production by the command line alone."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from feilun.testing import saved_models

pytest.importorskip("mlflow")
sys.path.insert(0, str(Path(__file__).parents[1] / "adapters/http_endpoint"))
from endpoint_server import serving, url_of

pytestmark = pytest.mark.xdist_group("up")

ADOPTED = """ranker = fl.adopted(
    "ranker",
    features=[UserItem.clicks, UserProfile.clicks],
    label=fl.outcome(Click, within="30m"),
    metric="precision@10",
)
"""


@pytest.fixture
def adopting(shop):
    """A shop whose ranker nobody here trains, with a few clicks."""
    text = (shop.root / "shop.py").read_text()
    start, end = text.index("@fl.model("), text.index("@fl.capability(")
    text = text[:start] + ADOPTED + "\n\n" + text[end : text.index("loop = ")]
    (shop.root / "shop.py").write_text(text)
    clicks = [f"7,{item},2026-03-01T00:00:00Z" for item in range(5) for _ in range(item + 1)]
    (shop.root / "clicks.csv").write_text("\n".join(["user_id,item_id,when", *clicks]))
    shop.run("import", shop.root / "clicks.csv", "--event", "click", "--time", "when")
    return shop


def theirs():
    x = np.random.default_rng(0).integers(0, 9, (400, 2)).astype(np.float32)
    return x, x[:, 0] * 2 + x[:, 1]


def xgboost_file(path):
    xgboost = pytest.importorskip("xgboost")
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(*theirs()), 20)
    booster.save_model(path)
    return booster


def onnx_file(path):
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LinearRegression

    kind = skl2onnx.common.data_types.FloatTensorType([None, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = LinearRegression().fit(*theirs())
        made = skl2onnx.convert_sklearn(fitted, initial_types=[("x", kind)])
    path.write_bytes(made.SerializeToString())


def test_two_formats_one_after_the_other(adopting, start, until):
    shop = adopting
    first = shop.root / "model.whatever"  # the name says nothing
    xgboost_file(shop.root / "model.ubj")
    (shop.root / "model.ubj").rename(first)
    onnx_file(shop.root / "model.onnx")
    assert "adopted" in shop.run("check").stdout
    with start(shop):
        until(lambda: shop.call("/status")[1]["lag"] == 0)
        assert shop.call("/api/recommend?user_id=7")[1]["degraded"] == ["no_model"]
        adopted = shop.json("adopt", "ranker", first)
        assert adopted["format"] == "xgboost/1"
        assert adopted["release"]["action"] == "adopt"
        assert list(adopted["columns"]) == ["user_item:clicks", "user_profile:clicks"]
        assert adopted["behind"] == []
        until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 1)
        status, reply = shop.call("/api/recommend?user_id=7")
        assert (status, reply["version"], reply["degraded"]) == (200, 1, [])
        assert reply["result"][0] == 4  # clicked most often

        assert "--replace" in shop.run("adopt", "ranker", shop.root / "model.onnx", code=2).stderr
        shown = shop.run("adopt", "ranker", shop.root / "model.onnx", "--replace").stdout
        assert "user_item:clicks" in shown
        assert "default=" in shown  # a linear model has no score where something is missing
        until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 2)
        status, reply = shop.call("/api/recommend?user_id=7")
        assert (reply["version"], reply["degraded"], reply["result"][0]) == (2, [], 4)
        # A way back has to be open also while the registry, which people look at, is away.
        registry, away = shop.root / ".feilun/mlflow.db", shop.root / "mlflow.db"
        registry.rename(away)
        back = shop.run("rollback", "ranker")
        assert "version 1 is in production" in back.stdout
        assert "is lost" in back.stderr
        assert not registry.exists()
        away.rename(registry)
    actions = [r["action"] for r in shop.json("history", "ranker")["releases"]]
    assert actions == ["adopt", "adopt", "rollback"]
    assert "adopted" in shop.run("history", "ranker").stdout
    assert "nothing here trains it" in shop.run("train", "ranker", code=2).stderr


def test_an_endpoint_serves_and_may_fail(adopting, start, until):
    shop = adopting
    with serving() as endpoint:
        url = url_of(endpoint, "/invocations")
        assert "--private" in shop.run("adopt", "ranker", url, code=2).stderr
        with start(shop):
            until(lambda: shop.call("/status")[1]["lag"] == 0)
            adopted = shop.json("adopt", "ranker", url, "--private")
            assert adopted["format"] == "http-endpoint/1"
            until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 1)
            reply = shop.call("/api/recommend?user_id=7")[1]
            assert (reply["version"], reply["degraded"], reply["result"][0]) == (1, [], 4)
            endpoint.faults["/invocations"] = "hang"
            status, reply = shop.call("/api/recommend?user_id=7")
            assert status == 200
            assert reply["degraded"], reply
            assert reply["result"]  # the fallback's
            endpoint.faults.clear()
            endpoint.released.set()
            assert shop.call("/api/recommend?user_id=7")[1]["degraded"] == []


def test_options_of_endpoints_are_for_endpoints(adopting):
    said = adopting.run("adopt", "ranker", "model.ubj", "--private", code=2).stderr
    assert "endpoints" in said


def test_an_mlflow_folder_by_its_native_file(adopting):
    shop = adopting
    folder = shop.root / "logged"
    folder.mkdir()
    xgboost_file(folder / "model.ubj")
    (folder / "MLmodel").write_text("flavors: {xgboost: {data: model.ubj}}")
    adopted = shop.json("adopt", "ranker", folder)
    assert (adopted["format"], adopted["release"]["version"]) == ("xgboost/1", 1)


def test_the_folder_of_a_saved_model(adopting, start, until):
    shop = adopting
    folder = saved_models.write(shop.root / "exported", saved_models.dense(2)[0])
    with start(shop):
        until(lambda: shop.call("/status")[1]["lag"] == 0)
        adopted = shop.json("adopt", "ranker", folder)
        assert adopted["format"] == "saved-model/1"
        until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 1)
        status, reply = shop.call("/api/recommend?user_id=7")
        assert (status, reply["version"], reply["degraded"]) == (200, 1, [])
        assert reply["result"]
    assert "in production" in shop.run("adopt", "ranker", folder, "--replace", code=2).stderr
    alone = shop.run("adopt", "ranker", folder / "saved_model.pb", "--replace", code=1).stderr
    assert "folder" in alone


def by_device(folder):
    """Write a model that ranks clicks up for one device, and down for another."""
    node, kind = saved_models.node, saved_models.Type
    devices = np.array([b"web", b"app"], object)
    nodes = [
        node("c", "Placeholder"),
        node("d", "Placeholder"),
        node("t", "HashTableV2", key_dtype=kind(saved_models.TEXT), value_dtype=kind(1)),
        node("keys", "Const", value=devices),
        node("signs", "Const", value=np.array([1, -1], np.float32)),
        node("first", "LookupTableImportV2", "t", "keys", "signs"),
        node("none", "Const", value=np.array(0, np.float32)),
        node("sign", "LookupTableFindV2", "t", "d", "none"),
        node("score", "Mul", "c", "sign"),
    ]
    inputs = {"clicks": ("c:0", 1, (-1,)), "device": ("d:0", saved_models.TEXT, (-1,))}
    signature = saved_models.Signature(inputs, {"score": ("score:0", 1, (-1,))})
    return saved_models.write(folder, saved_models.saved_model(nodes, signature, first="first"))


def test_texts_of_a_saved_model_are_those_of_the_request(adopting, start, until):
    shop = adopting
    text = (shop.root / "shop.py").read_text()
    text = text.replace("UserProfile.clicks],", 'fl.request.param("device", str)],')
    text = text.replace(
        "user_id: int, k: int = 10)", 'user_id: int, device: str = "", k: int = 10)'
    )
    (shop.root / "shop.py").write_text(text)
    (shop.root / "codes.json").write_text('{"request:device": ["app", "web"]}')
    folder = by_device(shop.root / "exported")
    with start(shop):
        until(lambda: shop.call("/status")[1]["lag"] == 0)
        adopted = shop.json("adopt", "ranker", folder, "--categories", shop.root / "codes.json")
        assert adopted["columns"] == {"user_item:clicks": "clicks", "request:device": "device"}
        until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 1)
        for device, best in (("web", 4), ("app", 0)):
            reply = shop.call(f"/api/recommend?user_id=7&device={device}")[1]
            assert (reply["result"][0], reply["degraded"]) == (best, [])


@pytest.mark.parametrize(
    ("file", "way"),
    [("saved_model.pb", "tf2onnx"), ("config.json", "optimum-cli"), ("other", "file")],
)
def test_other_folders_are_refused_with_the_way(adopting, file, way):
    (adopting.root / "theirs").mkdir()
    (adopting.root / "theirs" / file).write_bytes(b"\x08\x01")
    assert way in adopting.run("adopt", "ranker", adopting.root / "theirs", code=1).stderr


def test_what_cannot_be_adopted_is_said(adopting):
    shop = adopting
    (shop.root / "model.onnx").write_bytes(b"\x80\x04K\x01.")
    refused = shop.run("adopt", "ranker", shop.root / "model.onnx", code=1).stderr
    assert "pickle" in refused
    assert "skl2onnx" in refused
    assert "cannot be read" in shop.run("adopt", "ranker", "nowhere.onnx", code=2).stderr
    assert "no model" in shop.run("adopt", "other", "nowhere.onnx", code=2).stderr.lower()
    assert shop.json("history")["releases"] == []
