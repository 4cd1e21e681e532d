"""``feilun rollout``: a version beside the one in production, for some of the requests."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feilun.cli.following import await_release, complain_of, workers_expected
from feilun.cli.groups import InOrder
from feilun.cli.models import any_model_argument, check_model, model_argument, workshop_of
from feilun.cli.options import configured, json_option, project_option
from feilun.cli.team_store import acting
from feilun.errors import InputError
from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.app.config import Config
    from feilun.ports.releases import ReleaseHistory, Rollout

shadow_option = click.option(
    "--shadow", is_flag=True, help=_("It scores every request and answers none.")
)


@click.group(
    "rollout",
    InOrder,
    no_args_is_help=False,
    help=_("Try a version beside the one in production."),
)
def group() -> None:
    """Try versions."""


@group.command("start", help=_("Begin a rollout of a version."))
@model_argument
@click.argument(
    "version", type=click.IntRange(min=1), metavar="VERSION", help=_("A registered version.")
)
@shadow_option
@click.option(
    "--percent", type=float, metavar="PERCENT", help=_("It answers so many of the units.")
)
@project_option
def start(
    model: str, version: int, *, shadow: bool, percent: float | None, project: Path | None
) -> int:
    """Begin a rollout."""
    from feilun.flywheel import rollout

    if shadow == (percent is not None):
        raise InputError(_("Say --shadow or --percent."), "feilun rollout start MODEL 3 --shadow")
    share = _share(percent, model)
    config = configured(project)
    with workshop_of(config) as workshop:
        check_model(workshop, model)
        entry = rollout.start(workshop, model, version, share, acting())
        return _follow(config, workshop.releases, entry)


@group.command("set", help=_("Give the version to another share of the units."))
@model_argument
@click.argument(
    "percent",
    type=float,
    required=False,
    metavar="[PERCENT]",
    help=_("Above 0, up to 100, which is all of them."),
)
@shadow_option
@project_option
def move(model: str, percent: float | None, *, shadow: bool, project: Path | None) -> int:
    """Bring a rollout to another stage."""
    from feilun.app import compose
    from feilun.clock import SystemClock
    from feilun.flywheel import rollout

    if shadow == (percent is not None):
        raise InputError(_("Say a percentage or --shadow."), f"feilun rollout set {model} --shadow")
    share = _share(percent, model)
    config = configured(project)
    with closing(compose.event_log(config)) as log, closing(compose.releases(config)) as releases:
        entry = rollout.move(releases, log, SystemClock(), model=model, percent=share, by=acting())
        return _follow(config, releases, entry)


@group.command("stop", help=_("End it: everybody gets what is in production."))
@model_argument
@project_option
def stop(model: str, project: Path | None) -> int:
    """End a rollout; what is in production answers everybody."""
    from feilun.app import compose
    from feilun.clock import SystemClock
    from feilun.flywheel import rollout

    config = configured(project)
    with closing(compose.event_log(config)) as log, closing(compose.releases(config)) as releases:
        entry = rollout.stop(releases, log, SystemClock(), model=model, by=acting())
        return _follow(config, releases, entry)


@group.command("promote", help=_("End it: put the version in production."))
@model_argument
@project_option
def promote(model: str, project: Path | None) -> int:
    """Put what is being rolled out in production."""
    from feilun.flywheel import rollout

    config = configured(project)
    with workshop_of(config) as workshop:
        check_model(workshop, model)
        release = rollout.promote(workshop, model, acting())
        return await_release(config, workshop, release)


@group.command("show", help=_("Show what is being rolled out, and what was."))
@any_model_argument
@project_option
@json_option
def show(model: str | None, project: Path | None, *, as_json: bool) -> None:
    """Show every entry of every rollout, and which go on."""
    from feilun.app import compose
    from feilun.app.terminal import say, say_json, say_table

    with closing(compose.releases(configured(project))) as releases:
        entries = releases.rollouts(model)
        live = _live(releases, entries)
    if as_json:
        say_json({"rollouts": [{**e._asdict(), "going_on": e in live} for e in entries]})
    elif not entries:
        say(_("No version has been rolled out."))
    else:
        headings = _("model"), _("version"), _("stage"), _("percent"), _("at"), _("by"), _("now")
        say_table(headings, [_row(entry, goes_on=entry in live) for entry in entries])


def _share(percent: float | None, model: str) -> float:
    """Return a share of the units, which is 0 in shadow; nobody has to know that."""
    if percent == 0:
        raise InputError(
            _("0 % could mean two things."),
            _(
                "It is to go on scoring and answer nobody: --shadow. It is to end: feilun rollout "
                "stop {model}",
                model=model,
            ),
        )
    return percent or 0.0


def _live(releases: ReleaseHistory, entries: list[Rollout]) -> list[Rollout]:
    """Return the newest entry of each model whose rollout goes on."""
    from feilun.ports.releases import going_on

    models = dict.fromkeys(entry.model for entry in entries)
    found = (going_on(releases.rollout(model), releases.current(model)) for model in models)
    return [entry for entry in found if entry is not None]


def _row(entry: Rollout, *, goes_on: bool) -> tuple[Any, ...]:
    from feilun.clock import to_iso

    now = _("goes on") if goes_on else ""
    stage = _STAGES[entry.stage]()
    at = to_iso(entry.at)[:19]
    return entry.model, entry.version, stage, f"{entry.percent:g}", at, entry.by, now


def _follow(config: Config, releases: ReleaseHistory, entry: Rollout) -> int:
    """Wait for the gateway's workers, and say how far they are; 3 if some are behind."""
    import time

    from feilun.app.terminal import say
    from feilun.clock import SystemClock
    from feilun.flywheel.rollout import await_followers

    expected = workers_expected(config)
    found = await_followers(releases, entry, SystemClock(), time.sleep, expected)
    said = {"model": entry.model, "version": entry.version, "workers": len(found["serving"])}
    if entry.stage == "off":
        text = _("{model} version {version} answers nobody; {workers} workers follow.", **said)
    elif entry.stage == "shadow":
        text = _("{model} version {version} is a shadow; {workers} workers follow.", **said)
    else:
        text = _(
            "{model} version {version} answers {percent} % of the units; {workers} workers follow.",
            percent=f"{entry.percent:g}",
            **said,
        )
    say(text)
    return complain_of(found, expected)


_STAGES = {
    "off": lambda: _("stopped"),
    "shadow": lambda: _("shadow"),
    "canary": lambda: _("canary"),
    "full": lambda: _("all"),
}
