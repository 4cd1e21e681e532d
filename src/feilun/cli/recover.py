"""``feilun recover``: begin a new ``platform.db`` where the old one is lost."""

from __future__ import annotations

import typer

from feilun.cli.options import ProjectFolder, configured
from feilun.cli.team_store import acting, opened
from feilun.clock import SystemClock
from feilun.errors import Conflict
from feilun.i18n import _


def register(app: typer.Typer) -> None:
    """Add the command."""
    begins = _("Begin a new platform.db where the old one is lost and there is no backup.")
    app.command("recover", help=begins)(recover)


def recover(project: ProjectFolder = None) -> None:
    """Begin a new database while the platform stands still: nobody has a key to it yet."""
    from feilun.app import compose
    from feilun.app.config import prepare_data
    from feilun.app.locks import ProcessLock
    from feilun.app.terminal import say

    config = configured(project)
    prepare_data(config)
    with ProcessLock(config.run_path, "up"), ProcessLock(config.run_path, "gateway"):
        path = config.database_path
        if path.exists() and path.stat().st_size:
            raise Conflict(
                _("{path} is there.", path=path),
                _("If it is damaged, put it back from a backup, or move it away first."),
            )
        compose.make_database(config)
        with opened(config) as store:
            detail = "a new platform.db"
            store.note("recover", path.name, detail, at=SystemClock().now(), by=acting())
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
