"""The sync process: brings in what is new in tables when they are due, until told to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing

from feilun.app import compose
from feilun.app.config import Config
from feilun.app.locks import ProcessLock, holder
from feilun.app.process import Stop
from feilun.clock import Clock, SystemClock
from feilun.definitions.specs import Project
from feilun.errors import ConfigError, FeilunError
from feilun.events.syncing import due_at, sync_table
from feilun.events.table_rows import TableRows, table_of
from feilun.i18n import _
from feilun.ports.event_log import EventLog
from feilun.ports.sync_store import SyncStatus, SyncStore

PAUSE = 0.5
"""Seconds between two looks at what is due."""

logger = logging.getLogger("feilun.sync")


def check_sources(config: Config, project: Project) -> None:
    """See that ``feilun.toml`` has the source of every table.

    Raises
    ------
    ConfigError
        If one is missing.
    """
    for name in project.tables:
        source = table_of(project, name)[1].source
        if source not in config.sources:
            raise ConfigError(
                _(
                    "The table {table} comes from {source}, and feilun.toml does not say where "
                    "that is.",
                    table=name,
                    source=source,
                ),
                _("Add [sources.{source}]; docs/tables.md shows how.", source=source),
            )


def statuses(config: Config) -> dict[str, SyncStatus]:
    """Return how each table's last synchronisation went."""
    if not compose.has_begun(config) and not config.database_path.exists():
        return {}
    with closing(compose.sync_store(config)) as store:
        return store.statuses()


def run(config: Config, lock: ProcessLock, stop: Stop) -> None:
    """Synchronise every table when it is due. What fails is logged and tried again later."""
    project = compose.definitions(config)
    check_sources(config, project)
    compose.check_database(config)
    with (
        closing(compose.event_log(config)) as log,
        closing(compose.sync_store(config)) as store,
    ):
        syncing = Syncing(config, project, log, store, SystemClock())
        lock.ready()
        logger.info("sync is ready")
        while not stop:
            for name in syncing.due():
                syncing.try_one(name, lambda: bool(stop))
            time.sleep(PAUSE)


class Syncing:
    """What synchronising the tables of one project takes.

    Parameters
    ----------
    config : Config
        Where their sources are.
    project : Project
        Where they are defined.
    log, store : EventLog, SyncStore
        Where rows go, and what is remembered.
    clock : Clock
        Says what is due.
    """

    def __init__(
        self, config: Config, project: Project, log: EventLog, store: SyncStore, clock: Clock
    ) -> None:
        self._config = config
        self._rows = {name: TableRows(project, name) for name in project.tables}
        self._log = log
        self._store = store
        self._clock = clock

    def due(self) -> list[str]:
        """Return the tables that are due and that no other process is at, longest due first."""
        known = self._store.statuses()
        now = self._clock.now()
        moments = {name: due_at(rows.table, known.get(name)) for name, rows in self._rows.items()}
        waiting = [(at, name) for name, at in moments.items() if at is not None and at <= now]
        return [
            name
            for _at, name in sorted(waiting)
            if holder(self._config.run_path, _lock_name(name)) is None
        ]

    def one(self, name: str, *, full: bool, stop: Callable[[], bool]) -> SyncStatus:
        """Synchronise one table; see `feilun.events.syncing.sync_table`.

        Raises
        ------
        Unavailable
            If another process is at it.
        FeilunError
            If it failed; its status says so too.
        """
        rows = self._rows[name]
        with ProcessLock(self._config.run_path, _lock_name(name)):
            return sync_table(
                rows,
                lambda: compose.table_source(self._config, rows.table.source),
                self._log,
                self._store,
                self._clock,
                full=full,
                stop=stop,
            )

    def try_one(self, name: str, stop: Callable[[], bool]) -> None:
        """Synchronise one table; log how it went."""
        try:
            done = self.one(name, full=False, stop=stop)
        except FeilunError as error:
            logger.error("%s could not be synchronised: %s", name, error)
        except Exception:  # whatever a driver does, the other tables must not wait for it
            logger.exception("%s could not be synchronised", name)
        else:
            logger.info(
                "%s: %d rows, %d new, %d duplicates, %d conflicts, %d bad",
                name,
                done.rows,
                done.new,
                done.duplicates,
                done.conflicts,
                done.bad,
            )


def _lock_name(table: str) -> str:
    return f"sync {table}"
