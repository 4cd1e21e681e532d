"""``feilun lake`` and ``feilun archive``: what is in the lake, and what the log has into it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from feilun.cli.options import configured, json_option, project_option
from feilun.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feilun.ports.lake import TableStatus


@click.command("lake", help=_("Show the lake's tables, and how far the log is archived."))
@project_option
@json_option
def lake(project: Path | None, *, as_json: bool) -> None:
    """Show every table of the lake; the platform need not run."""
    from feilun.app import compose
    from feilun.app.terminal import say_json

    config = configured(project)
    archived, tables = 0, []
    if config.lake_path.is_dir():
        with closing(compose.lake(config)) as opened:
            archived, tables = opened.archived(), opened.tables()
    with closing(compose.event_log(config)) as log:
        end = log.end()
    if as_json:
        found = [table._asdict() for table in tables]
        say_json({"archived": archived, "log_end": end, "tables": found})
    else:
        _show(archived, end, tables)


@click.command("archive", help=_("Write what the log has into the lake now, and tidy it."))
@project_option
@json_option
def archive(project: Path | None, *, as_json: bool) -> None:
    """Archive everything the log has, due or not; beside a running archiver too."""
    from feilun.app import compose
    from feilun.app.config import prepare_data
    from feilun.app.terminal import say, say_json
    from feilun.clock import SystemClock
    from feilun.features.archive import Archiver

    config = configured(project)
    prepare_data(config)
    clock = SystemClock()
    with closing(compose.event_log(config)) as log, closing(compose.lake(config)) as opened:
        archiver = Archiver(log, opened, clock)
        taken = archiver.run_all()
        opened.maintain(clock.now())
    if as_json:
        say_json({"taken": taken, "archived": archiver.position})
    else:
        say(_("{count} records are now in the lake that were not.", count=taken))


def _show(archived: int, end: int, tables: Sequence[TableStatus]) -> None:
    from feilun.app.terminal import say, say_table

    if tables:
        say_table(
            (_("table"), _("rows"), _("files"), _("bytes"), _("snapshots"), _("read it from")),
            [
                (table.name, table.rows, table.files, table.bytes, table.snapshots, table.metadata)
                for table in tables
            ],
        )
    say(
        _(
            "{archived} of {end} records of the log are in the lake.",
            archived=min(archived, end),
            end=end,
        )
    )
