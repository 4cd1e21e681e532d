"""MLflow's folders: the file of the model's own library, and nothing that runs code."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from feilun.adapters.lightgbm import LightGbmLoader
from feilun.adapters.mlflow.folder import native_file
from feilun.adapters.xgboost import XgboostLoader
from feilun.errors import ModelError

pytest.importorskip("mlflow")
# MLflow warns of its own type hints while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


def test_a_logged_booster_of_lightgbm(tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    import mlflow.lightgbm

    made = lightgbm.train({"verbosity": -1}, lightgbm.Dataset(X, Y), 5)
    mlflow.lightgbm.save_model(made, tmp_path / "m")
    scorer = LightGbmLoader().load(native_file(tmp_path / "m").read_bytes(), 3)
    assert scorer.score(X).tolist() == made.predict(X).tolist()


def test_a_logged_estimator_of_xgboost(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    import mlflow.xgboost

    made = xgboost.XGBClassifier(n_estimators=4, max_depth=2, n_jobs=1).fit(X, Y)
    mlflow.xgboost.save_model(made, tmp_path / "m")
    scorer = XgboostLoader().load(native_file(tmp_path / "m").read_bytes(), 3)
    assert scorer.score(X).tolist() == made.predict_proba(X)[:, 1].astype(float).tolist()


def folder(tmp_path, text, **files):
    made = tmp_path / "m"
    made.mkdir()
    (made / "MLmodel").write_text(text)
    for name, data in files.items():
        (made / name).write_bytes(data)
    return made


def test_flavors_that_run_code_are_refused_with_the_way_to_log(tmp_path):
    text = (
        "flavors:\n  python_function: {loader_module: os, data: model.pkl}\n"
        "  sklearn: {pickled_model: model.pkl}\n"
    )
    with pytest.raises(ModelError, match="python_function, sklearn; what they load runs code") as e:
        native_file(folder(tmp_path, text))
    assert "mlflow.onnx.log_model" in e.value.hint


@pytest.mark.parametrize("data", ["../secret", "/etc/passwd", "link"])
def test_a_file_outside_the_folder_is_refused(tmp_path, data):
    (tmp_path / "secret").write_text("tree\n")
    made = folder(tmp_path, f"flavors:\n  lightgbm: {{data: {data}}}\n")
    (made / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="outside"):
        native_file(made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "flavors: 3",
        "flavors: {lightgbm: 3}",
        "flavors: {lightgbm: {data: gone}}",
        "flavors: !!python/object/apply:os.mkdir [MARKER]",
        "a: &a [1, 2]\nb: [*a, *a]\nflavors: {lightgbm: {data: MLmodel}}",
        "{" * 5000,
        "\0",
        "x" * (1 << 20) + "yy",
    ],
)
def test_what_is_not_sound_is_refused_and_nothing_runs(tmp_path, text):
    marker = tmp_path / "ran"
    with pytest.raises(ModelError):
        native_file(folder(tmp_path, text.replace("MARKER", str(marker))))
    assert not marker.exists()


def test_mlflow_is_not_imported(tmp_path):
    made = folder(tmp_path, "flavors: {lightgbm: {data: a}}", a=b"tree\n")
    code = (
        "import pathlib, sys; from feilun.adapters.mlflow.folder import native_file; "
        "print(native_file(pathlib.Path(sys.argv[1])).name, 'mlflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["a", "False"]
    shutil.rmtree(made)
