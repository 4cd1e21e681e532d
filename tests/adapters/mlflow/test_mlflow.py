"""MLflow passes the exam, keeps quiet, and takes up what a crash left half-done."""

import shutil
import subprocess
import sys
import time

import pytest

from feilun.adapters.mlflow import MlflowRegistry
from feilun.errors import ConfigError, InputError, MissingExtra, Unavailable
from feilun.testing.platform_fakes import InMemoryRegistry
from feilun.testing.registry_conformance import ModelRegistryExam

QUIET = """
import sys
from pathlib import Path

def refuse(event, args):
    if event == "socket.connect" or (event == "subprocess.Popen" and "git" in args[1]):
        raise AssertionError(f"{event}: {args}")

sys.addaudithook(refuse)
folder = Path(sys.argv[1])
from feilun.adapters.mlflow import MlflowRegistry
assert "mlflow" not in sys.modules  # imported at first use
registry = MlflowRegistry(folder / "mlflow.db", folder / "mlartifacts")
registry.register("quiet", "a1", folder / "bundle", params={}, metrics={}, tags={})
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Make MLflow's tables once, in a process that shows that it keeps quiet."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "bundle").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in folder.iterdir()} == {"bundle", "mlflow.db", "mlartifacts"}
    return folder / "mlflow.db"


def from_template(template, folder):
    shutil.copy(template, folder / "mlflow.db")
    return MlflowRegistry(folder / "mlflow.db", folder / "mlartifacts")


class TestMlflowRegistry(ModelRegistryExam):
    @pytest.fixture
    def registry(self, tmp_path, template):
        return from_template(template, tmp_path)

    def make(self, folder):
        raise NotImplementedError("the fixture makes it, from the template")


class TestInMemoryRegistry(ModelRegistryExam):
    def make(self, folder):
        return InMemoryRegistry()


@pytest.fixture
def registry(tmp_path, template):
    return from_template(template, tmp_path)


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundles" / "a1"
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text('{"model": "ranker"}')
    return folder


def told(registry, bundle, **options):
    return registry.register(
        "ranker",
        "a1",
        bundle,
        **{"params": {"leaves": 31}, "metrics": {"precision@10": 0.5}, "tags": {"cut": "70"}}
        | options,
    )


def test_people_find_what_was_told(registry, bundle):
    version = told(registry, bundle)
    run = registry._made.get_run(version.run_id)
    assert run.data.params == {"leaves": "31"}
    assert run.data.metrics == {"precision_at_10": 0.5}
    assert run.data.tags["cut"] == "70"
    assert run.info.status == "FINISHED"
    copy = registry._artifacts / "ranker" / version.run_id / "artifacts" / "bundle" / "bundle.json"
    assert copy.read_text() == '{"model": "ranker"}'


def test_a_run_that_a_crash_left_is_taken_up_again(registry, bundle, monkeypatch):
    registry.versions("ranker")
    monkeypatch.setattr(registry._made, "log_artifacts", _crash, raising=True)
    with pytest.raises(KeyboardInterrupt):
        told(registry, bundle)
    monkeypatch.undo()
    version = told(registry, bundle)
    experiment = registry._made.get_experiment_by_name("ranker").experiment_id
    runs = registry._made.search_runs([experiment])
    assert [run.info.run_id for run in runs] == [version.run_id]
    assert [version.version] == [known.version for known in registry.versions("ranker")]


def _crash(*args):
    raise KeyboardInterrupt


def test_a_registration_takes_a_moment(registry, bundle):
    registry.versions("ranker")
    start = time.process_time()  # what others do to the machine is not its cost
    told(registry, bundle)
    assert time.process_time() - start < 1.5


def test_names_mean_nothing_in_filters(registry, bundle):
    with pytest.raises(InputError):
        registry.versions("x' OR name LIKE '%")
    with pytest.raises(InputError):
        registry.register("ranker", "a' OR", bundle, params={}, metrics={}, tags={})


def test_a_registry_that_fails_is_unavailable(registry, bundle):
    registry.versions("ranker")
    (registry._artifacts / "ranker").write_text("a file where its folder should be")
    with pytest.raises(Unavailable):
        told(registry, bundle)
    assert registry.versions("ranker") == []


def test_a_registry_that_is_lost_is_not_begun_anew_and_goes_on_once_it_is_back(
    registry, bundle, tmp_path
):
    first, away = told(registry, bundle), tmp_path / "away.db"
    registry._database.rename(away)
    fresh = MlflowRegistry(registry._database, registry._artifacts)  # as another process has it
    for each in (registry, fresh):
        with pytest.raises(ConfigError, match="is lost"):
            each.versions("ranker")
        with pytest.raises(ConfigError, match="is lost"):
            told(each, bundle)
    assert not registry._database.exists()
    shutil.copy(away, registry._database)  # another file than the one that was opened
    registry.set_alias("ranker", "champion", first.version)
    assert fresh.get("ranker", "champion") == first


def test_a_bundle_that_is_not_there_is_not_registered(registry, bundle):
    with pytest.raises(InputError):
        told(registry, bundle / "absent")
    assert registry.versions("ranker") == []


def test_without_mlflow_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtra, match="feilun\\[models\\]"):
        MlflowRegistry(tmp_path / "mlflow.db", tmp_path / "mlartifacts").versions("ranker")
