"""The composition root: which adapter stands behind each port. Nothing else imports adapters.

Heavy libraries are imported by the function that needs them, never by this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feilun.adapters.files.table import Encoding
    from feilun.adapters.lmdb import LmdbEventLog
    from feilun.adapters.sqlite import (
        SqliteKnownLog,
        SqliteReleases,
        SqliteSkew,
        SqliteSyncs,
        SqliteTeams,
        SqliteTurns,
    )
    from feilun.app.config import Config
    from feilun.definitions.specs import Project
    from feilun.features.engine import Engine
    from feilun.features.online import OnlineReader
    from feilun.flywheel.auditor import Auditor
    from feilun.flywheel.workshop import Workshop
    from feilun.ports.encoder import Encoder, EncoderParts, Encoders, EncoderSpec
    from feilun.ports.event_log import EventLog
    from feilun.ports.lake import Lake
    from feilun.ports.model_registry import ModelRegistry
    from feilun.ports.online_store import OnlineStore
    from feilun.ports.releases import ReleaseHistory
    from feilun.ports.scorer import ScorerLoader
    from feilun.ports.skew_store import SkewStore
    from feilun.ports.table_source import TableSource
    from feilun.ports.turn_store import TurnStore
    from feilun.serving.app import Gateway

SERVING_SECONDS = 0.9
"""For one call of an encoder; below what a request waits for vectors."""
TRAINING_SECONDS = 60.0
"""The same where nobody waits."""


def has_begun(config: Config) -> bool:
    """Return whether there has been a platform: ``platform.db`` is made before the log and models.

    So where one of those is and it is not, it is lost, and an empty one must not take its place.
    """
    return config.log_path.exists() or holds_something(config.bundles_path)


def begin(config: Config) -> None:
    """Make ``platform.db`` where there has been no platform; elsewhere do nothing."""
    if not has_begun(config):
        make_database(config)


def check_place(config: Config) -> None:
    """See that there is something in the data folder, for workers: they start after it was made.

    Raises
    ------
    ConfigError
        If the folder has gone: an empty platform in its place would let everybody in.
    """
    from feilun.errors import ConfigError
    from feilun.i18n import _

    if not has_begun(config) and not config.database_path.exists():
        raise ConfigError(
            _("The data folder {folder} was emptied or taken away.", folder=config.data),
            _("Put it back. To begin anew, stop the platform and start it again."),
        )


def holds_something(folder: Path) -> bool:
    """Return whether there is a folder with something in it."""
    return folder.is_dir() and any(folder.iterdir())


def make_database(config: Config) -> None:
    """Make ``platform.db`` where it is missing, though there has been a platform."""
    from feilun.adapters.sqlite import Database

    Database(config.database_path).close()


def check_database(config: Config) -> None:
    """See that ``platform.db`` is there and can be read; made where there has been no platform.

    Raises
    ------
    ConfigError
        If it is lost, or of a newer Feilun; or if the log is lost.
    CorruptData
        If it is damaged.
    """
    from contextlib import closing

    from feilun.adapters.sqlite import Database
    from feilun.app.lost_log import check_log

    check_log(config)
    begin(config)
    with closing(Database(config.database_path, new=False)) as database:
        database.check()


def event_log(config: Config) -> EventLog:
    """Open the event log. Once a process, after it was spawned, and before the online store.

    Raises
    ------
    ConfigError
        If it is lost; or if somebody is in it who was erased: it was put back from an old copy.
    """
    from feilun.adapters.lmdb import LmdbEventLog
    from feilun.app.erasure_list import check_erasures
    from feilun.app.lost_log import check_log, note_log

    check_log(config)
    begin(config)
    log = LmdbEventLog(config.log_path)
    note_log(config)
    try:
        check_erasures(config.root, log)
    except BaseException:
        log.close()
        raise
    return log


def new_event_log(folder: Path) -> LmdbEventLog:
    """Open a log in a folder of its own, that may take the place of a lost one."""
    from feilun.adapters.lmdb import LmdbEventLog

    return LmdbEventLog(folder)


def known_log(config: Config) -> SqliteKnownLog:
    """Open what ``platform.db`` knows of the log."""
    from feilun.adapters.sqlite import SqliteKnownLog

    return SqliteKnownLog(config.database_path)


def event_log_alone(config: Config) -> EventLog:
    """Open the event log for an erasure, while nobody else has it open."""
    from feilun.adapters.lmdb import LmdbEventLog

    begin(config)
    return LmdbEventLog(config.log_path, alone=True)


def online_store(config: Config) -> OnlineStore:
    """Open the online store. Once a process, after it was spawned."""
    from feilun.adapters.lmdb import LmdbOnlineStore

    return LmdbOnlineStore(config.tiles_path)


def lake_installed() -> bool:
    """Return whether the lake's libraries are there; they are not imported."""
    from importlib.util import find_spec

    return all(find_spec(name) for name in ("pyiceberg", "pyarrow", "sqlalchemy"))


def lake(config: Config) -> Lake:
    """Open the lake; it is made if absent. Importing Iceberg takes seconds.

    Raises
    ------
    MissingExtra
        If it is not installed.
    """
    from feilun.errors import MissingExtra

    if not lake_installed():
        raise MissingExtra("PyIceberg", "lake")
    from feilun.adapters.iceberg import IcebergLake

    return IcebergLake(config.lake_path)


def name_snapshot(config: Config, name: str) -> int | None:
    """Keep the lake's state under ``name``; None where nothing was ever archived."""
    from contextlib import closing

    if not (config.lake and lake_installed() and config.lake_path.exists()):
        return None
    with closing(lake(config)) as opened:
        return opened.name_snapshot(name)


def turn_store(config: Config) -> SqliteTurns:
    """Open the record of turns."""
    from feilun.adapters.sqlite import SqliteTurns

    return SqliteTurns(config.database_path, new=not has_begun(config))


def releases(config: Config) -> SqliteReleases:
    """Open the history of what is in production."""
    from feilun.adapters.sqlite import SqliteReleases

    return SqliteReleases(config.database_path, new=not has_begun(config))


def registry(config: Config) -> ModelRegistry:
    """Open the model registry; MLflow itself is imported at its first use."""
    from feilun.adapters.mlflow import MlflowRegistry

    return MlflowRegistry(config.data / "mlflow.db", config.data / "mlartifacts")


def mlflow_file(folder: Path) -> Path:
    """Return the file of an MLflow model's folder that can be adopted."""
    from feilun.adapters.mlflow.folder import native_file

    return native_file(folder)


def saved_model(folder: Path, cap: int, texts: Mapping[int, Sequence[str]]) -> bytes:
    """Return a TensorFlow SavedModel's folder as one file, with the texts of its columns."""
    from feilun.adapters.tensorflow import pack

    return pack(folder, cap, texts)


def endpoint(url: str, columns: int, *, private: bool, secret: str) -> bytes:
    """Return the bytes that stand for a model behind an HTTP endpoint."""
    from feilun.adapters.http_endpoint import describe

    return describe(url, columns, private=private, secret=secret)


def scorer_loaders() -> dict[str, ScorerLoader]:
    """Return a loader for each model format that may run."""
    from feilun.adapters.encoder import ClassifierLoader
    from feilun.adapters.http_endpoint import EndpointLoader
    from feilun.adapters.lightgbm import LightGbmLoader
    from feilun.adapters.onnx import OnnxLoader
    from feilun.adapters.tensorflow import SavedModelLoader
    from feilun.adapters.torch import ExportedProgramLoader, ScriptLoader
    from feilun.adapters.xgboost import XgboostLoader

    loaders: list[ScorerLoader] = [
        LightGbmLoader(),
        XgboostLoader(),
        OnnxLoader(),
        ExportedProgramLoader(),
        ScriptLoader(),
        SavedModelLoader(),
        EndpointLoader(),
        ClassifierLoader(),
    ]
    return {loader.format: loader for loader in loaders}


def encoders(config: Config, seconds: float) -> Encoders:
    """Return the way to this machine's encoders; a call of theirs may take so many seconds."""
    from feilun.adapters.worker import SocketEncoders

    return SocketEncoders(config.encoder_socket, seconds)


def encoder_dim(config: Config, digest: str) -> int:
    """Return how many numbers the vectors of an encoder have."""
    from feilun.models.encoder import read_spec

    return read_spec(config.encoders_path, digest).dim


def load_encoder(config: Config, digest: str) -> Encoder:
    """Load an encoder that was added to the project; its libraries are imported here alone."""
    from feilun.adapters.encoder import load_encoder as load
    from feilun.models.encoder import read_encoder

    return load(read_encoder(config.encoders_path, digest))


def add_encoder(config: Config, folder: Path) -> tuple[str, EncoderSpec]:
    """Keep the encoder in a folder if it encodes; return its digest, and what it is."""
    from feilun.adapters.encoder import load_encoder as load
    from feilun.models.encoder import write_encoder
    from feilun.models.encoder_folder import read_folder

    parts = read_folder(folder)
    load(parts)
    return write_encoder(config.encoders_path, parts), parts.spec


def classifier(folder: Path) -> tuple[EncoderParts, bytes]:
    """Return the text classifier in a folder if it works, and the bytes that stand for it."""
    from feilun.adapters.encoder import describe
    from feilun.adapters.encoder import load_encoder as load
    from feilun.models.encoder import digest_of
    from feilun.models.encoder_folder import read_classifier

    parts = read_classifier(folder)
    load(parts)
    return parts, describe(digest_of(parts.spec), parts.spec)


def live_encoders(config: Config, project: Project) -> dict[str, str]:
    """Return the encoders and classifiers that versions in production read by: names by digest."""
    from contextlib import closing

    from feilun.models.pinned import live_encoders as live

    with closing(releases(config)) as history:
        return live(project, history, config.bundles_path)


def workshop(
    config: Config, log: EventLog, turns: TurnStore, history: ReleaseHistory, *, owner: str, by: str
) -> Workshop:
    """Gather what turns work with.

    ``owner`` names this process in the leases of turns; ``by`` is who promotes, for the history.
    """
    import time

    from feilun.adapters.lightgbm import to_model_text
    from feilun.clock import SystemClock
    from feilun.flywheel.gate import SKEW_REQUESTS
    from feilun.flywheel.workshop import Workshop
    from feilun.models.skew import Meanings, audit_between

    project = definitions(config)
    encoding = encoders(config, TRAINING_SECONDS)
    meanings = Meanings(project, history, config.bundles_path, encoding)
    return Workshop(
        project=project,
        log=log,
        turns=turns,
        releases=history,
        registry=registry(config),
        bundles=config.bundles_path,
        convert=to_model_text,
        loaders=scorer_loaders(),
        clock=SystemClock(),
        pause=time.sleep,
        name_snapshot=partial(name_snapshot, config),
        audit=partial(audit_between, log, meanings, size=SKEW_REQUESTS),
        owner=owner,
        by=by,
        encoders=encoding,
    )


def skew_store(config: Config) -> SqliteSkew:
    """Open what the audit of served vectors has found."""
    from feilun.adapters.sqlite import SqliteSkew

    return SqliteSkew(config.database_path, new=not has_begun(config))


def auditor(workshop: Workshop, store: SkewStore) -> Auditor:
    """Return what audits served vectors, beside the turns."""
    from feilun.flywheel.auditor import Auditor
    from feilun.models.skew import Meanings

    meanings = Meanings(workshop.project, workshop.releases, workshop.bundles, workshop.encoders)
    return Auditor(workshop.log, meanings, store)


def teams(config: Config) -> SqliteTeams:
    """Open the teams, their keys and usage, and the audit log."""
    from feilun.adapters.sqlite import SqliteTeams

    return SqliteTeams(config.database_path, new=not has_begun(config))


def sync_store(config: Config) -> SqliteSyncs:
    """Open what is remembered of synchronisations."""
    from feilun.adapters.sqlite import SqliteSyncs

    return SqliteSyncs(config.database_path, new=not has_begun(config))


def table_source(config: Config, name: str) -> TableSource:
    """Open a source of tables; only one that ``feilun.toml`` names."""
    source = config.sources[name]
    if source.kind == "sqlalchemy":
        from feilun.adapters.sqlalchemy import SqlTableSource

        return SqlTableSource(name, source.value("url"), config.root)
    if source.kind == "files":
        from feilun.adapters.files import FilesTableSource

        encoding: Any = source.value("encoding", "auto")
        return FilesTableSource(name, source.value("path"), config.root, encoding)
    from feilun.adapters.iceberg_source import IcebergTableSource

    properties = source.values("catalog")
    return IcebergTableSource(name, properties.pop("name", name), properties)


def read_table(
    path: Path,
    names: Sequence[str] | None = None,
    *,
    optional: Sequence[str] = (),
    encoding: Encoding = "auto",
    text: bool = False,
) -> dict[str, list[Any]]:
    """Read a CSV or Parquet file; see `feilun.adapters.files.read_table`."""
    from feilun.adapters.files import read_table as read

    return read(path, names, optional=optional, encoding=encoding, text=text)


def definitions(config: Config) -> Project:
    """Import the project's file, compile what it defines, and try its custom aggregations.

    Raises
    ------
    DefinitionError
        If anything is wrong, or a custom aggregation breaks a law.
    """
    from feilun.definitions.loading import load_project

    project = load_project(config.module)
    _try_custom_aggregations(project)
    return project


def _try_custom_aggregations(project: Project) -> None:
    """Refuse custom aggregations that break a law: their features would differ by the mode."""
    custom = {
        (feature.fold.custom, feature.fold.dtype, feature.fold.field is None): feature
        for view in project.views.values()
        for feature in view.features
        if feature.fold.custom is not None
    }
    if not custom:
        return
    from feilun.aggregation.laws import check_laws
    from feilun.errors import DefinitionError, Problem

    problems = [
        Problem(
            feature.address,
            f"{aggregation.name} breaks a law: {broken}",
            "Mend its lift, reduce or finish: a value follows from which events there are alone.",
        )
        for (aggregation, _, _), feature in custom.items()
        for broken in check_laws(feature.fold)
    ]
    if problems:
        raise DefinitionError(problems)


def engine(
    config: Config,
    project: Project,
    log: EventLog,
    store: OnlineStore,
    history: ReleaseHistory,
) -> Engine:
    """Return what folds the log into the store, for the project and for what is in production."""
    from feilun.features.engine import Engine
    from feilun.models.pinned import PinnedFolds

    pinned = PinnedFolds(project, history, config.bundles_path)
    return Engine(project, log, store, pinned=pinned)


def online_reader(project: Project, store: OnlineStore) -> OnlineReader:
    """Return what reads features from the store."""
    from feilun.features.online import OnlineReader

    return OnlineReader(project, store)


CLIENTS = ("python", "javascript", "openapi")
"""What clients can be generated in; ``openapi`` is the description itself."""


def api_description(config: Config, project: Project) -> dict[str, Any]:
    """Return the OpenAPI description, as the gateway serves it."""
    from importlib.metadata import version

    from feilun.serving.description.openapi import describe

    return describe(project, version("feilun"), config.clock)


def client_files(config: Config, language: str) -> dict[str, str]:
    """Return the files of a generated client, name to text."""
    import json

    from feilun.clients.javascript import render_javascript
    from feilun.clients.python import render_python
    from feilun.clients.surface import read_surface
    from feilun.serving.http.pages import tracker_source

    description = api_description(config, definitions(config))
    if language == "openapi":
        return {"openapi.json": json.dumps(description, indent=1, ensure_ascii=False) + "\n"}
    surface = read_surface(description)
    if language == "python":
        return render_python(surface)
    return render_javascript(surface, tracker_source())


def gateway_application(config: Config) -> Gateway:
    """Build one gateway worker. Called after the worker was spawned: it opens the stores."""
    import os

    from feilun.app.token import read_token
    from feilun.clock import SystemClock
    from feilun.serving.access.quota import OwnQuota, SharedQuota
    from feilun.serving.worker import LOOPBACK, GatewayParts, make_app

    check_place(config)
    quota = OwnQuota() if config.workers == 1 else SharedQuota(config.quota_path, config.workers)
    own = f"[{config.own_host}]" if ":" in config.own_host else config.own_host
    return make_app(
        GatewayParts(
            project=definitions(config),
            log=event_log(config),
            store=online_store(config),
            releases=releases(config),
            turns=turn_store(config),
            skew=skew_store(config),
            teams=teams(config),
            loaders=scorer_loaders(),
            bundles=config.bundles_path,
            clock=SystemClock(),
            clock_mode=config.clock,
            worker=f"gateway-{os.getpid()}",
            token=read_token(config),
            keys_required=config.keys == "required",
            quota=quota,
            hosts=LOOPBACK | {own} | config.hosts,
            origins=frozenset(config.origins),
            encoders=encoders(config, SERVING_SECONDS),
        )
    )
