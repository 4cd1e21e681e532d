"""``feilun recover``: begin a new ``platform.db``, or a new log, where the old one is lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from feilun.cli.options import configured, project_option
from feilun.cli.team_store import acting, opened
from feilun.clock import SystemClock
from feilun.errors import Conflict
from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.app.config import Config


@click.command(
    "recover",
    help=_("Begin a new platform.db or log where the old one is lost and there is no backup."),
)
@project_option
def recover(project: Path | None) -> None:
    """Begin anew what is lost while the platform stands still."""
    from feilun.app import compose, lost_log
    from feilun.app.config import prepare_data
    from feilun.app.locks import ProcessLock

    config = configured(project)
    prepare_data(config)
    with ProcessLock(config.run_path, "up"), ProcessLock(config.run_path, "gateway"):
        path = config.database_path
        database_lost = not (path.exists() and path.stat().st_size)
        log_lost = lost_log.log_is_lost(config)
        if not database_lost and not log_lost:
            raise Conflict(
                _("{path} is there, and so is the log.", path=path),
                _("If one is damaged, put it back from a backup, or move it away first."),
            )
        if log_lost:
            lost_log.check_tiles_away(config)
        if database_lost:
            compose.make_database(config)
            _note(config, path.name, "a new platform.db")
        first = lost_log.begin_log(config) if log_lost else None
        if first is not None:
            _note(config, config.log_path.name, f"a new log, from offset {first} on")
    if database_lost:
        _say_database(config)
    if first is not None:
        _say_log(config, first)


def _note(config: Config, what: str, detail: str) -> None:
    with opened(config) as store:
        store.note("recover", what, detail, at=SystemClock().now(), by=acting())


def _say_database(config: Config) -> None:
    """Say what a new database means: nobody has a key to it yet."""
    from feilun.app.terminal import say

    path = config.database_path
    say(_("A new {path} has begun: no team, no history of what was in production.", path=path))
    if config.keys == "auto":
        say(
            _(
                "Before the platform starts, add the teams (feilun team add): until there is one, "
                "programs on this machine need no key."
            )
        )
    say(
        _(
            "Versions that were trained are still there: "
            "feilun rollout start MODEL VERSION --percent 100, then feilun rollout promote MODEL."
        )
    )


def _say_log(config: Config, first: int) -> None:
    from feilun.app.terminal import say

    say(
        _(
            "A new log {folder} has begun at offset {first}: every feature begins with nothing.",
            folder=config.log_path,
            first=first,
        )
    )
    say(
        _(
            "Import what you have of the past (feilun import); tables are read anew. What the "
            "lake has of it stays there."
        )
    )
