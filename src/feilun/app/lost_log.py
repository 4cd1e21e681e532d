"""A log that is lost: it is missed, and none takes its place until somebody says so."""

from __future__ import annotations

from contextlib import closing, suppress

from feilun.app import compose
from feilun.app.compose import holds_something
from feilun.app.config import Config
from feilun.clock import SystemClock
from feilun.errors import ConfigError, FeilunError
from feilun.i18n import _


def check_log(config: Config) -> None:
    """See that the log is not lost: where something was made of it, or knows it, it has been.

    Raises
    ------
    ConfigError
        If it is: an empty one in its place would pass for the whole of what happened.
    """
    if log_is_lost(config):
        raise ConfigError(
            _(
                "The event log {folder} is lost: it has been there, and is not.",
                folder=config.log_path,
            ),
            _("Put it back from a backup. If there is none, begin a new one: feilun recover"),
        )


def log_is_lost(config: Config) -> bool:
    """Return whether there has been a log that is not there.

    The log is looked for last: another process may begin one meanwhile, and what tells of it.
    """
    told = any(map(holds_something, (config.tiles_path, config.lake_path))) or _is_known(config)
    return told and not holds_something(config.log_path)


def _is_known(config: Config) -> bool:
    try:
        with closing(compose.known_log(config)) as known:
            return known.has_begun()
    except FeilunError:
        return False  # what is wrong with platform.db others tell


def note_log(config: Config) -> None:
    """Let ``platform.db`` know that there is a log. Where it cannot, the next process does."""
    with suppress(FeilunError), closing(compose.known_log(config)) as known:
        known.note(SystemClock().now())


def check_tiles_away(config: Config) -> None:
    """See that no tiles of a lost log are there.

    Raises
    ------
    ConfigError
        If there are.
    """
    if holds_something(config.tiles_path):
        raise ConfigError(
            _("{tiles} has features of the log that is lost.", tiles=config.tiles_path),
            _("Move it away: nothing could make them again, or tell whether they are right."),
        )


def begin_log(config: Config) -> int:
    """Begin a log in the place of one that is lost; return its first offset.

    It is behind every offset that is written down anywhere, so that none of them gets a second
    meaning, and tables are read from their beginning. A crash in the middle leaves it lost.

    Raises
    ------
    MissingExtra
        If there is a lake, and what reads it is not installed.
    """
    with closing(compose.known_log(config)) as known:
        end = known.end()
        known.forget_rows()
    if holds_something(config.lake_path):
        with closing(compose.lake(config)) as lake:
            end = max(end, lake.archived())
    made = config.log_path.with_name("log.new")
    with closing(compose.new_event_log(made)) as log:
        if not log.end():
            log.begin_at(end)
        first = log.end()
    made.replace(config.log_path)
    return first
