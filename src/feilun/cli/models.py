"""Models, their turns and what is in production: train, turn, adopt, history, rollback."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from feilun.cli.following import await_release
from feilun.cli.options import PATH, configured, json_option, project_option
from feilun.cli.team_store import acting
from feilun.errors import InputError, UnknownName
from feilun.i18n import _

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from feilun.app.config import Config
    from feilun.flywheel.adoption import Adopted
    from feilun.flywheel.workshop import Workshop

POLL_SECONDS = 0.1

model_argument = click.argument("model", metavar="MODEL", help=_("The model's name."))
any_model_argument = click.argument(
    "model", required=False, metavar="[MODEL]", help=_("The model's name; default: all.")
)


@click.command("turn", help=_("Take a turn of a model's loop now; the same as train."))
@model_argument
@project_option
@json_option
def turn(model: str, project: Path | None, *, as_json: bool) -> int:
    """Take a turn by hand, here or in the running flywheel, and show what became of it."""
    import time

    from feilun.app.terminal import say_json
    from feilun.cli.turns import say_turn
    from feilun.flywheel.controller import Controller
    from feilun.flywheel.record import turn_record
    from feilun.flywheel.turn import GATE_BY_HAND

    with workshop_of(configured(project)) as workshop:
        check_model(workshop, model)
        controller = Controller(workshop)
        opened = controller.turn_by_hand(model)
        while True:
            controller.run_once()
            taken = workshop.turns.get(opened.id)
            if taken is None or taken.state != "running":
                break
            time.sleep(POLL_SECONDS)  # the running flywheel has it
        found = turn_record(workshop.turns, taken or opened)
    if as_json:
        say_json(found)
    else:
        spec, loop = workshop.project.models[model], workshop.project.flywheels.get(model)
        gate = GATE_BY_HAND if loop is None else loop.gate
        say_turn(found, spec.metric, spec.width, gate.confidence)
    return 1 if found["state"] == "failed" else 0


train = click.Command(
    "train",
    help=_("Train a model now on what the log has; the gate decides whether it is promoted."),
    callback=turn.callback,
    params=turn.params,
)


@click.command(
    "adopt",
    help=_("Put a model that somebody else has trained in production, after checking it."),
)
@model_argument
@click.argument(
    "source",
    metavar="FILE|FOLDER|URL",
    help=_(
        "The model's file in its own format, a folder of MLflow's or of a text "
        "classifier, or an endpoint's URL."
    ),
)
@click.option(
    "--categories",
    type=PATH,
    metavar="FILE",
    help=_("JSON: for each text column, its values in the order of their codes."),
)
@click.option(
    "--trained-until",
    metavar="TIME",
    help=_("What came later is new to it (ISO 8601); default: now."),
)
@click.option("--replace", is_flag=True, help=_("Take the place of the version in production."))
@click.option(
    "--shadow",
    is_flag=True,
    help=_("Have it score beside the version in production, and answer nobody."),
)
@click.option("--private", is_flag=True, help=_("The endpoint may be in a private network."))
@click.option(
    "--secret",
    default="",
    show_default=False,
    metavar="VARIABLE",
    help=_("Holds the value of the endpoint's Authorization header."),
)
@project_option
@json_option
def adopt(
    model: str,
    source: str,
    *,
    categories: Path | None,
    trained_until: str | None,
    replace: bool,
    shadow: bool,
    private: bool,
    secret: str,
    project: Path | None,
    as_json: bool,
) -> None:
    """Adopt a model, and show what it takes and who serves it."""
    from feilun.app.terminal import say, say_json

    if shadow and replace:
        raise InputError(
            _("Take --replace or --shadow, not both."), _("A shadow takes nobody's place.")
        )
    tell = say if not as_json else lambda _step: None
    tell(_("Reading {source}.", source=source))
    from feilun.app.adopting import read_categories, read_model
    from feilun.flywheel.adoption import adopt as put_in_production

    config = configured(project)
    with workshop_of(config) as workshop:
        check_model(workshop, model)
        spec, known = workshop.project.models[model], read_categories(categories)
        adopted = put_in_production(
            workshop,
            model,
            read_model(config, spec, source, known, private=private, secret=secret),
            by=acting(),
            categories=known,
            trained_until=None if trained_until is None else _moment(trained_until),
            replace=replace,
            shadow=shadow,
            tell=tell,
        )
    if as_json:
        found = adopted._asdict()
        say_json(found | {"release": adopted.release._asdict(), "columns": dict(adopted.columns)})
    else:
        _say_adopted(model, adopted)


def _say_adopted(model: str, adopted: Adopted) -> None:
    from feilun.app.terminal import say, say_table
    from feilun.ports.releases import Rollout

    say_table(
        (_("column"), _("in the file")),
        [(address, name or "–") for address, name in adopted.columns],
    )
    version = adopted.release.version
    said = {"model": model, "version": version}
    if isinstance(adopted.release, Rollout):
        say(_("{model} version {version} is a shadow; {workers} workers follow.",
              workers=len(adopted.serving), **said))  # fmt: skip
    else:
        say(_("{model} version {version} is in production.", **said))
    if not adopted.scores_missing and adopted.format != "text-classifier/1":
        say(
            _(
                "It gives no score where features are missing: the fallback answers then. "
                "Give the features a default=, or let the file fill in what is missing."
            )
        )
    if adopted.behind:
        workers = ", ".join(adopted.behind)
        say(_("Not served yet by {workers}; see feilun status.", workers=workers))


@click.command("history", help=_("Show what is and was in production."))
@any_model_argument
@click.option("--at", metavar="TIME", help=_("Only what was in production then (ISO 8601)."))
@project_option
@json_option
def history(model: str | None, at: str | None, project: Path | None, *, as_json: bool) -> None:
    """Show the releases."""
    from feilun.app import compose
    from feilun.app.terminal import say, say_json, say_table
    from feilun.clock import to_iso

    config = configured(project)
    with closing(compose.releases(config)) as releases:
        found = releases.entries(model)
        if at is not None:
            moment = _moment(at)
            names = sorted({release.model for release in found})
            found = [r for name in names if (r := releases.at(name, moment)) is not None]
    if as_json:
        say_json({"releases": [release._asdict() for release in found]})
    elif not found and model is not None:
        _check_name(compose.definitions(config).models, model)
        say(_("No version of {model} has been in production.", model=model))
    elif not found:
        say(_("No model has been in production."))
    else:
        say_table(
            (_("model"), _("version"), _("action"), _("from offset"), _("at"), _("turn"), _("by")),
            [
                (
                    r.model,
                    r.version,
                    _ACTIONS[r.action](),
                    r.offset,
                    to_iso(r.at)[:19],
                    r.turn,
                    r.by,
                )
                for r in found
            ],
        )


@click.command("rollback", help=_("Put an earlier version of a model back in production."))
@model_argument
@click.option(
    "--to", type=click.IntRange(min=1), metavar="VERSION", help=_("Default: the one before.")
)
@project_option
def rollback(model: str, to: int | None, project: Path | None) -> int:
    """Put an earlier version back; the gateway switches between two requests."""
    from feilun.flywheel.release import rollback as put_back

    config = configured(project)
    with workshop_of(config) as workshop:
        check_model(workshop, model)
        release = put_back(workshop, model, acting(), to)
        return await_release(config, workshop, release)


@contextmanager
def workshop_of(config: Config) -> Iterator[Workshop]:
    """Open what turns work with; a command is an owner of its own, beside the flywheel's."""
    from feilun.app import compose

    with (
        closing(compose.event_log(config)) as log,
        closing(compose.turn_store(config)) as turns,
        closing(compose.releases(config)) as releases,
    ):
        owner = f"command {os.getpid()}"
        workshop = compose.workshop(config, log, turns, releases, owner=owner, by=acting())
        with closing(workshop.encoders):
            yield workshop


def check_model(workshop: Workshop, name: str) -> None:
    """Raise UnknownName if the project has no such model."""
    _check_name(workshop.project.models, name)


def _check_name(models: Collection[str], name: str) -> None:
    if name not in models:
        raise UnknownName(
            _("There is no model {name}.", name=repr(name)),
            _("Known: {names}.", names=", ".join(models)),
        )


def _moment(text: str) -> int:
    """Return µs UTC; a time without a zone is the machine's local time."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise InputError(
            _("{text} is not a time.", text=repr(text)), "2026-11-22T10:00:00+08:00"
        ) from error
    return round(moment.timestamp() * 1_000_000)


_ACTIONS = {
    "promote": lambda: _("promoted"),
    "rollback": lambda: _("rolled back to"),
    "adopt": lambda: _("adopted"),
}
