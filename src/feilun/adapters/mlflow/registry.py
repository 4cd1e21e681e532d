"""`ModelRegistry` on MLflow 3, with SQLite for its tables and a folder for its files.

MLflow takes seconds to import and as long to make its tables, so both happen at first use. It is
told to keep quiet: no telemetry, no look at git, no network, nothing on stdout.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feilun.errors import ConfigError, InputError, MissingExtra, Unavailable, UnknownName
from feilun.ports.model_registry import ModelVersion

BUNDLE_TAG = "feilun.bundle"
"""Tag of runs and of versions: the digest of the bundle that the gateway loads."""

_MODEL = re.compile(r"[a-z][a-z0-9_]*")
_DIGEST = re.compile(r"[A-Za-z0-9_.-]+")
_LONGEST_PARAM = 6_000
_LONGEST_TAG = 8_000


class MlflowRegistry:
    """Runs, versions and aliases in MLflow; see `feilun.ports.model_registry.ModelRegistry`.

    Each model is an MLflow experiment and a registered model of the same name. Open it with
    ``mlflow ui --backend-store-uri sqlite:///…/mlflow.db``.

    Parameters
    ----------
    database : Path
        The SQLite file of MLflow's tables.
    artifacts : Path
        The folder that runs' files are copied to.

    Raises
    ------
    ConfigError
        At any use: if ``database`` is gone and ``artifacts`` is not.
    """

    def __init__(self, database: Path, artifacts: Path) -> None:
        self._database = database.absolute()
        self._artifacts = artifacts.absolute()
        self._lock = threading.Lock()
        self._made: Any = None

    def register(
        self,
        model: str,
        bundle: str,
        folder: Path,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> ModelVersion:
        """Record a training run with its files and register its bundle as a new version.

        Idempotent by (model, bundle), also after a crash half-way: a run that was begun for the
        bundle is taken up again.

        Raises
        ------
        MissingExtra
            If MLflow is not installed.
        InputError
            If ``folder`` is not there, or a name has other than letters, digits and ``_``.
        Unavailable
            If its database or folder cannot be written now.
        """
        _check(_MODEL, model, "a model's name")
        _check(_DIGEST, bundle, "a bundle's digest")
        if not folder.is_dir():  # MLflow would copy nothing and say so to nobody
            raise InputError(f"There is no folder {folder} to register.", "Write the bundle first.")
        with self._client() as client:
            for known in self._versions(client, model):
                if known.bundle == bundle:
                    return known
            run = self._run(client, model, bundle)
            self._fill(client, run.info.run_id, params, metrics, tags)
            client.log_artifacts(run.info.run_id, str(folder), "bundle")
            client.set_terminated(run.info.run_id)
            self._ensure_model(client, model)
            made = client.create_model_version(
                model,
                source=f"{run.info.artifact_uri}/bundle",
                run_id=run.info.run_id,
                tags={BUNDLE_TAG: bundle},
                await_creation_for=None,
            )
            return _version(made)

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point ``champion`` or ``challenger`` at a version."""
        if self.get(model, version) is None:
            raise UnknownName(f"Model {model} has no version {version}.", "See: feilun history")
        with self._client() as client:
            client.set_registered_model_alias(model, alias, str(version))

    def get(self, model: str, version: int | str) -> ModelVersion | None:
        """Return a version by number or alias."""
        with self._client() as client:
            if isinstance(version, str):
                aliased = _found(client.get_model_version_by_alias, model, version)
                return None if aliased is None else _version(aliased)
            numbered = _found(client.get_model_version, model, str(version))
            return None if numbered is None else _version(numbered)

    def versions(self, model: str) -> list[ModelVersion]:
        """Return every version, oldest first."""
        _check(_MODEL, model, "a model's name")
        with self._client() as client:
            return self._versions(client, model)

    def _versions(self, client: Any, model: str) -> list[ModelVersion]:
        found: list[ModelVersion] = []
        page: str | None = None
        while True:
            answer = client.search_model_versions(f"name = '{model}'", page_token=page)
            found += [_version(version) for version in answer]
            page = answer.token
            if not page:
                return sorted(found, key=lambda version: version.version)

    def _run(self, client: Any, model: str, bundle: str) -> Any:
        experiment = client.get_experiment_by_name(model)
        if experiment is None:
            location = (self._artifacts / model).as_uri()
            number = client.create_experiment(model, artifact_location=location)
        else:
            number = experiment.experiment_id
        begun = client.search_runs([number], f"tags.`{BUNDLE_TAG}` = '{bundle}'", max_results=1)
        if begun:
            return begun[0]
        return client.create_run(number, run_name=bundle[:12], tags={BUNDLE_TAG: bundle})

    def _fill(
        self,
        client: Any,
        run_id: str,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        client.log_batch(
            run_id,
            # MLflow refuses "@" in names; time and step 0 make a second try change nothing.
            metrics=[Metric(n.replace("@", "_at_"), v, 0, 0) for n, v in metrics.items()],
            params=[Param(n, str(v)[:_LONGEST_PARAM]) for n, v in params.items()],
            tags=[RunTag(n, v[:_LONGEST_TAG]) for n, v in tags.items()],
        )

    def _ensure_model(self, client: Any, model: str) -> None:
        if _found(client.get_registered_model, model) is None:
            client.create_registered_model(model)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """Give MLflow's client, made at first use; its errors become Feilun's."""
        self._check_place()
        with self._lock:
            if self._made is None:
                self._made = self._make()
        from mlflow.exceptions import MlflowException

        try:
            yield self._made
        except MlflowException as error:
            reason, *_sql = error.message.splitlines() or [""]
            raise Unavailable(
                f"The model registry at {self._database} failed: {reason}",
                "Production is not touched; the turn can be tried again.",
            ) from error
        except OSError as error:
            raise Unavailable(
                f"The registry's folder {self._artifacts} cannot be written: {error.strerror}.",
                "Make room or mend its permissions; the turn can be tried again.",
            ) from error

    def _check_place(self) -> None:
        """See that the tables are not lost: runs' files are made after them."""
        begun = self._artifacts.is_dir() and any(self._artifacts.iterdir())
        if begun and not self._database.exists():
            # An empty one would number versions anew, and two of a model would have one number.
            raise ConfigError(
                f"The model registry {self._database} is lost: its runs' files are there, and it "
                "is not.",
                "Put it back from a backup. To begin without it, move "
                f"{self._artifacts} away too; versions are numbered from 1 again then.",
            )

    def _make(self) -> Any:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["DO_NOT_TRACK"] = "true"
        # Each use opens the file that lies there then, and not one that was moved away.
        os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
        logging.getLogger("alembic").setLevel(logging.WARNING)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise MissingExtra("mlflow", "models") from error
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        try:
            self._database.parent.mkdir(parents=True, exist_ok=True)
            self._artifacts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"The registry's folder {self._artifacts} cannot be made: {error.strerror}.",
                "Choose a data folder that can be written in feilun.toml.",
            ) from error
        uri = f"sqlite:///{self._database}"
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _version(found: Any) -> ModelVersion:
    return ModelVersion(
        found.name,
        int(found.version),
        found.tags.get(BUNDLE_TAG, ""),
        found.run_id,
        found.creation_timestamp * 1_000,
    )


def _found(ask: Any, *names: str) -> Any:
    """Return MLflow's answer, or None where it knows no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return ask(*names)
    except MlflowException as error:
        # A missing alias is said to be a wrong parameter.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _check(pattern: re.Pattern[str], value: str, what: str) -> None:
    """Refuse what would mean something in MLflow's filters."""
    if not pattern.fullmatch(value):
        raise InputError(f"{value[:80]!r} is not {what}.")
