"""``feilun import``: past events in bulk, from a file straight into the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from feilun.cli.options import PATH, configured, json_option, project_option
from feilun.errors import InputError, UnknownName
from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.definitions.specs import Project
    from feilun.events.importing import Mapped


@click.command("import", help=_("Load past events from a CSV or Parquet file."))
@click.argument("file", type=PATH, metavar="FILE", help=_("CSV or Parquet."))
@click.option("--event", required=True, help=_("The event that each row is."))
@click.option("--time", required=True, metavar="COLUMN", help=_("The column of the event's time."))
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="FIELD=COLUMN",
    help=_("The column of a field, where its name is another; may be repeated."),
)
@click.option("--available-at", metavar="COLUMN", help=_("The column of when it became known."))
@click.option("--delay", metavar="1d", help=_("Or: how long after its time."))
@click.option(
    "--id", "id_column", metavar="COLUMN", help=_("The column of ids; default: the content.")
)
@click.option("--source", help=_("What the rows come from; default: the file's name."))
@click.option(
    "--encoding",
    type=click.Choice(["auto", "utf-8", "gb18030"]),
    default="auto",
    help=_("Of a CSV file."),
)
@click.option("--time-format", metavar="FORMAT", help=_("Of times, such as %Y/%m/%d %H:%M."))
@project_option
@json_option
def import_file(
    file: Path,
    *,
    event: str,
    time: str,
    mapping: tuple[str, ...],
    available_at: str | None,
    delay: str | None,
    id_column: str | None,
    source: str | None,
    encoding: Literal["auto", "utf-8", "gb18030"],
    time_format: str | None,
    project: Path | None,
    as_json: bool,
) -> int:
    """Import a file; again after an interruption, and rows already in the log count once."""
    from feilun.app import compose
    from feilun.app.config import prepare_data
    from feilun.app.terminal import say, say_json, with_progress
    from feilun.cli.values import pairs_of
    from feilun.clock import SystemClock
    from feilun.events.importing import Imported, Importer, Mapped, import_rows

    config = configured(project)
    definitions = compose.definitions(config)
    if event not in definitions.events:
        known = ", ".join(definitions.events)
        raise UnknownName(
            _("There is no event {name}.", name=repr(event)), _("Known: {names}.", names=known)
        )
    mapped = Mapped(time, pairs_of(mapping), _available(available_at, delay), id_column)
    importer = Importer(definitions, event, source or file.stem, mapped)
    needed, optional = _columns(definitions, event, mapped)
    table = compose.read_table(file, needed, optional=optional, encoding=encoding, text=True)
    if time_format is not None:
        for column in {time, *([available_at] if available_at else [])}:
            table[column] = _parsed(column, table[column], time_format)
    prepare_data(config)
    done = Imported(0, 0, 0, 0)
    with closing(compose.event_log(config)) as log:

        def work(progress: Callable[[int], None]) -> None:
            nonlocal done
            done = import_rows(importer, _rows(table), log, SystemClock().now(), progress)

        with_progress(len(table[time]), file.name, work)
    if as_json:
        say_json(done._asdict())
    else:
        say(
            _(
                "{rows} rows: {accepted} accepted, {duplicates} known before, {bad} bad.",
                **done._asdict(),
            )
        )
        if done.erased:
            say(_("{count} rows are about erased subjects, and not stored.", count=done.erased))
        if done.bad:
            say(_("Why they are bad: feilun events bad"))
    return 1 if done.bad else 0


def _available(column: str | None, delay: str | None) -> str | int:
    from feilun.definitions.windows import WindowError, parse_duration

    if column is not None and delay is not None:
        raise InputError(_("--available-at and --delay exclude each other."))
    if column is not None:
        return column
    try:
        return 0 if delay is None else parse_duration(delay)
    except WindowError as error:
        raise InputError(f"--delay {error.what}", error.fix) from error


def _columns(project: Project, event: str, mapped: Mapped) -> tuple[list[str], list[str]]:
    """Return the columns that must be there, and those that are read if they are."""
    needed = [mapped.time]
    needed += [name for name in (mapped.available, mapped.id) if isinstance(name, str)]
    optional: list[str] = []
    for field in project.events[event].fields:
        named = field.name in mapped.fields
        column = mapped.fields.get(field.name, field.name)
        (optional if field.optional and not named else needed).append(column)
    return needed, optional


def _rows(table: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    names = list(table)
    for values in zip(*table.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _parsed(column: str, values: Sequence[Any], form: str) -> list[Any]:
    """Return the times of a column as datetimes; what does not fit stays, to be kept as bad."""
    from datetime import datetime

    parsed: list[Any] = []
    for value in values:
        try:
            parsed.append(datetime.strptime(value, form) if isinstance(value, str) else value)
        except ValueError:
            parsed.append(value)
    if values and parsed == list(values):
        raise InputError(
            _("No time in column {column} is like {format}.", column=repr(column), format=form),
            _("The first is {value}.", value=repr(values[0])),
        )
    return parsed
