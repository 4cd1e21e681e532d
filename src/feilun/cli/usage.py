"""What teams used, and the audit log: team usage, audit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from feilun.cli.options import configured, json_option, project_option
from feilun.cli.team_store import find, opened
from feilun.clock import DAY, to_iso
from feilun.errors import InputError
from feilun.i18n import _


@click.command("usage", help=_("Show what teams used."))
@click.argument("name", required=False, metavar="[TEAM]", help=_("The team's name; default: all."))
@click.option(
    "--since", metavar="DATE", help=_("The first day (UTC); default: that of this month.")
)
@project_option
@json_option
def usage(name: str | None, since: str | None, project: Path | None, *, as_json: bool) -> None:
    """Show answered requests by team, scope, model and version; with --json, by day too."""
    from feilun.app.terminal import say, say_json, say_table

    first = _day(since)
    with opened(configured(project)) as store:
        if name is not None:
            find(store.load(), name, revoked_too=True)
        rows = [row for row in store.usage(first) if name in (None, row.team)]
    if as_json:
        say_json({"usage": [{**r._asdict(), "day": to_iso(r.day * DAY)[:10]} for r in rows]})
        return
    say(_("Answered requests since {day} (UTC):", day=to_iso(first * DAY)[:10]))
    sums: Counter[tuple[str, str, str, int]] = Counter()
    for row in rows:
        sums[row.team, row.scope, row.model, row.version] += row.requests
    say_table(
        (_("team"), _("scope"), _("model"), _("version"), _("requests")),
        [
            (team, scope, model or None, version or None, count)
            for (team, scope, model, version), count in sorted(sums.items())
        ],
    )


@click.command("audit", help=_("Show who changed what, and which keys were used."))
@click.option("--limit", type=click.IntRange(min=1), default=100, help=_("The last so many."))
@project_option
@json_option
def audit(limit: int, project: Path | None, *, as_json: bool) -> None:
    """Print the end of the audit log, oldest first."""
    from feilun.app.terminal import say, say_json, say_table

    with opened(configured(project)) as store:
        found = store.audit(limit)
    if as_json:
        say_json({"audit": [{**entry._asdict(), "at": to_iso(entry.at)} for entry in found]})
    elif not found:
        say(_("Nothing was done yet."))
    else:
        say_table(
            (_("number"), _("at"), _("by"), _("action"), _("to"), _("detail")),
            [(e.number, to_iso(e.at)[:19], e.by, e.action, e.subject, e.detail) for e in found],
        )


def _day(text: str | None) -> int:
    from datetime import UTC, date, datetime

    try:
        day = datetime.now(UTC).date().replace(day=1) if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise InputError(_("{text} is not a date.", text=repr(text)), "2026-11-01") from error
    return (day - date(1970, 1, 1)).days
