"""``feilun sync``: brings what is new in tables into the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feilun.cli.options import configured, json_option, project_option
from feilun.errors import FeilunError, InputError
from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.app.config import Config
    from feilun.definitions.specs import Project
    from feilun.ports.sync_store import SyncStatus


@click.command("sync", help=_("Bring in what is new in tables, or show how that went."))
@click.argument(
    "tables", nargs=-1, metavar="[TABLE]...", help=_("Which tables; default: all of them.")
)
@click.option("--full", is_flag=True, help=_("Read the whole table, not only what is new."))
@click.option("--status", is_flag=True, help=_("Read nothing; show how the last one went."))
@project_option
@json_option
def sync(
    tables: tuple[str, ...], *, full: bool, status: bool, project: Path | None, as_json: bool
) -> int:
    """Synchronise tables now; one that fails does not keep the others from it."""
    from feilun.app import compose
    from feilun.app.syncing import check_sources, statuses
    from feilun.app.terminal import say_json

    config = configured(project)
    definitions = compose.definitions(config)
    check_sources(config, definitions)
    names = _names(definitions, tables)
    code = 0 if status else _sync_all(config, definitions, names, full=full)
    found = {name: known for name, known in statuses(config).items() if name in names}
    if as_json:
        say_json({"tables": statuses_as_json(found)})
    else:
        say_statuses(found)
        _explain(definitions, found)
    return code


def _sync_all(config: Config, definitions: Project, names: list[str], *, full: bool) -> int:
    """Synchronise each; return the exit code of the first that failed."""
    from contextlib import closing

    from feilun.app import compose
    from feilun.app.config import prepare_data
    from feilun.app.syncing import Syncing
    from feilun.app.terminal import complain
    from feilun.cli.main import exit_code
    from feilun.clock import SystemClock

    prepare_data(config)
    code = 0
    with (
        closing(compose.event_log(config)) as log,
        closing(compose.sync_store(config)) as store,
    ):
        syncing = Syncing(config, definitions, log, store, SystemClock())
        for name in names:
            try:
                syncing.one(name, full=full, stop=lambda: False)
            except FeilunError as error:
                complain(f"{name}: {error.message}", error.hint)
                code = code or exit_code(error)
    return code


def _names(definitions: Project, words: Sequence[str]) -> list[str]:
    known = list(definitions.tables)
    for word in words:
        if word not in known:
            raise InputError(
                _("There is no table {name}.", name=repr(word)),
                _("Known: {names}.", names=", ".join(known)),
            )
    if not known:
        raise InputError(
            _("The project has no tables."), _("Define one: class Stock(fl.Table, …).")
        )
    return list(words) or known


def statuses_as_json(found: Mapping[str, SyncStatus]) -> dict[str, Any]:
    """Return statuses for scripts."""
    import msgspec

    return {name: msgspec.to_builtins(known) for name, known in found.items()}


def say_statuses(found: Mapping[str, SyncStatus]) -> None:
    """Print how each table's last synchronisation went."""
    from feilun.app.terminal import say_table
    from feilun.clock import to_iso

    states = {"running": _("running"), "done": _("done"), "failed": _("failed")}
    headings = (
        _("table"), _("state"), _("at"), _("rows"), _("new"), _("known before"), _("conflicts"),
        _("bad"), _("newest row"), _("error"),
    )  # fmt: skip
    say_table(
        headings,
        [
            (
                name,
                states[known.state],
                to_iso(known.ended or known.started)[:19],
                known.rows,
                known.new,
                known.duplicates,
                known.conflicts,
                known.bad,
                None if known.watermark is None else to_iso(known.watermark)[:19],
                known.error,
            )
            for name, known in found.items()
        ],
    )


def _explain(definitions: Project, found: Mapping[str, SyncStatus]) -> None:
    """Say what to do about rows that were refused."""
    from feilun.app.terminal import say
    from feilun.events.table_rows import table_of

    for name, known in found.items():
        table = table_of(definitions, name)[1]
        if known.conflicts:
            say(
                _(
                    "{table}: {count} rows changed while {time} stayed the same. What came first "
                    "counts. Let {time} move with every change, and see that {key} names a row.",
                    table=name,
                    count=known.conflicts,
                    time=table.time,
                    key=", ".join(table.key),
                )
            )
    if any(known.bad or known.conflicts for known in found.values()):
        say(_("Why they are bad: feilun events bad"))
