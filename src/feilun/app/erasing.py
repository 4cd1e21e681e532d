"""Erasing somebody: from log, tiles and lake, while the platform stands still.

Each step can be repeated, and the list says that an erasure is under way before the first of them:
whoever is stopped at any point does it again, and until then no part starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import msgspec

from feilun.app import compose
from feilun.app.config import Config, prepare_data
from feilun.app.erasure_list import ErasureList
from feilun.clock import Clock
from feilun.definitions.specs import Project
from feilun.errors import ConfigError, FeilunError
from feilun.i18n import _
from feilun.ports.lake import Lake
from feilun.records.erasure import Erasures

_EVER = 2**63 - 1


class ErasureReport(NamedTuple):
    """What an erasure took.

    Attributes
    ----------
    erasure : int
        Its number in the list.
    records : int
        Records taken out of the log; 0 where an erasure that was stopped had taken them.
    lake_rows : int
        Rows taken out of the lake's newest state.
    snapshots : list of str
        Named snapshots of the lake that were made anew.
    models : list of dict
        The versions whose turns could see a record of the subject: ``model``, ``version``,
        ``bundle``, ``turn``, ``state``, whether it is ``in_production``, and whether the bundle's
        dictionaries of texts have the subject's value itself (``names``).
    """

    erasure: int
    records: int
    lake_rows: int
    snapshots: list[str]
    models: list[dict[str, Any]]


def erase(config: Config, project: Project, subjects: Sequence[str], clock: Clock) -> ErasureReport:
    """Erase subjects, each ``entity=value``; without any, all on the list once more.

    An erasure that was stopped is finished by the next, whoever that is about.

    Raises
    ------
    Unavailable
        If the platform, or anything else, has the data folder open; nothing was changed.
    ConfigError
        If the list of erasures is not the one of this data folder, or ``platform.db`` is lost.
    CorruptData
        If records cannot be read that may be about a subject; nothing was changed.
    MissingExtra
        If there is a lake, and its libraries are not installed; nothing was changed.
    """
    prepare_data(config)
    compose.check_database(config)  # it says which models were trained on whom
    with ExitStack() as stack:
        log = stack.enter_context(closing(compose.event_log_alone(config)))
        store = stack.enter_context(closing(compose.online_store(config)))
        history = stack.enter_context(closing(compose.releases(config)))
        lake = None
        if config.lake_path.is_dir():
            lake = stack.enter_context(closing(compose.lake(config)))
        listed = ErasureList(config.root)
        unfinished = listed.unfinished
        before = _known(listed, log.erasures())
        # Whom those are about that were stopped, or came before a restore, only their hashes say.
        looked_for = [] if unfinished else list(subjects)
        about = log.covered(before.adding(subjects, _EVER), looked_for)
        moment = max(clock.now(), about.newest + 1)
        erasures = before.adding(subjects, moment)
        covered = log.covered(erasures, looked_for).offsets
        models = _trained_on(config, covered[0], subjects) if covered else []
        named = {erasures.name(subject): moment for subject in subjects}
        number = listed.begin(
            erasures, named or erasures.moments, clock.now(), records=len(covered), models=models
        )
        try:
            log.erase(erasures, looked_for)
        except FeilunError as error:  # it has changed nothing
            listed.fail(number, str(error))
            raise
        store.erase()
        compose.engine(config, project, log, store, history).rebuild()
        rows, snapshots = _erase_from(lake, erasures, looked_for)
        for path in config.run_path.glob("*.log*"):
            path.unlink()
        for each in (*unfinished, number):
            listed.finish(each, clock.now(), lake_rows=rows, snapshots=snapshots)
    return ErasureReport(number, len(covered), rows, snapshots, models)


def _known(listed: ErasureList, in_log: Erasures | None) -> Erasures:
    """Return everybody who was erased before, by the list and by the log."""
    wanted = listed.erasures
    if wanted is None or in_log is None:
        return wanted or in_log or Erasures.begun()
    if wanted.key != in_log.key:
        raise ConfigError(
            _("{path} is not the list of erasures of this data folder.", path=listed.path),
            _("Put the list back that belongs to it."),
        )
    return wanted.merged(in_log.moments)


def _erase_from(
    lake: Lake | None, erasures: Erasures, looked_for: Sequence[str]
) -> tuple[int, list[str]]:
    rows, names = 0, set()
    if lake is not None:
        for subject in dict.fromkeys(looked_for or lake.subjects()):
            moment = erasures.moment(subject)
            if moment is not None:
                deleted = lake.delete_subject(subject, moment)
                rows += deleted.rows
                names |= set(deleted.names)
    return rows, sorted(names)


def _trained_on(config: Config, offset: int, subjects: Sequence[str]) -> list[dict[str, Any]]:
    """Return the models whose training could see the record at an offset, or a later one."""
    values = [msgspec.json.encode(subject.partition("=")[2]) for subject in subjects]
    found = []
    with closing(compose.turn_store(config)) as turns, closing(compose.releases(config)) as known:
        from feilun.flywheel.record import turn_record

        for turn in turns.turns():
            record = turn_record(turns, turn)
            trained = record["challenger"]
            if turn.cut <= offset or trained["bundle"] is None:
                continue
            current = known.current(turn.model)
            described = config.bundles_path / trained["bundle"] / "bundle.json"
            raw = described.read_bytes() if described.exists() else b""
            found.append(
                {
                    "model": turn.model,
                    "version": trained["version"],
                    "bundle": trained["bundle"],
                    "turn": turn.id,
                    "state": turn.state,
                    "in_production": current is not None and current.bundle == trained["bundle"],
                    "names": any(value in raw for value in values),
                }
            )
    return found
