"""``feilun erase``: takes somebody's data out of everything that is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from feilun.cli.options import configured, json_option, project_option
from feilun.cli.team_store import acting, opened
from feilun.errors import InputError
from feilun.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feilun.app.erasing import ErasureReport
    from feilun.definitions.specs import Project


@click.command("erase", help=_("Take everything about somebody out of what is stored."))
@click.argument("subjects", nargs=-1, metavar="[ENTITY=VALUE]...", help=_("Whom."))
@click.option(
    "--again",
    is_flag=True,
    help=_("All on the list once more: after a restore, or when one was stopped."),
)
@project_option
@json_option
def erase(subjects: tuple[str, ...], *, again: bool, project: Path | None, as_json: bool) -> None:
    """Erase subjects for good, while the platform stands still."""
    from feilun.app.compose import definitions
    from feilun.app.erasing import erase as run
    from feilun.app.terminal import say_json
    from feilun.clock import SystemClock

    config = configured(project)
    found = definitions(config)
    if again == bool(subjects):
        raise InputError(_("Say whom, or --again."), "feilun erase user_id=123")
    report = run(config, found, _subjects(found, subjects), SystemClock())
    with opened(config) as store:  # not whom: the audit log forgets nothing
        store.note(
            "erase",
            f"erasure {report.erasure}",
            f"{report.records} records",
            at=SystemClock().now(),
            by=acting(),
        )
    if as_json:
        say_json(report._asdict())
    else:
        _show(report)


def _subjects(project: Project, words: Sequence[str]) -> list[str]:
    """Return the subjects as records name them: an int without leading zeros."""
    from feilun.cli.values import pairs_of, typed

    dtypes = {name: entity.dtype for name, entity in project.entities.items()}
    return [
        f"{name}={value}"
        for word in words
        for name, value in typed(pairs_of([word]), dtypes).items()
    ]


def _show(report: ErasureReport) -> None:
    from feilun.app.terminal import say, say_table

    say(_("{count} records are erased from the log.", count=report.records))
    say(_("{count} rows are erased from the lake.", count=report.lake_rows))
    if report.snapshots:
        names = ", ".join(report.snapshots)
        say(_("Snapshots of training sets made anew: {names}.", names=names))
    if report.models:
        say(_("These models were trained while the records were there:"))
        say_table(
            (
                _("model"),
                _("version"),
                _("turn"),
                _("in production"),
                _("has the name itself"),
            ),
            [
                (
                    model["model"],
                    model["version"],
                    model["turn"],
                    _("yes") if model["in_production"] else _("no"),
                    _("yes") if model["names"] else _("no"),
                )
                for model in report.models
            ],
        )
    say(_("Noted as erasure {number} in erasures.jsonl.", number=report.erasure))
