"""Running: up, serve, status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feilun.cli.options import (
    clock_option,
    configured,
    json_option,
    port_option,
    project_option,
)
from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.ports.sync_store import SyncStatus

supervised_option = click.option("--supervised", is_flag=True, hidden=True)


@click.command("up", help=_("Start the whole platform on this machine."))
@project_option
@port_option
@clock_option
@click.option("--quiet", is_flag=True, help=_("Print nothing but errors."))
@supervised_option
def up(
    project: Path | None, port: int | None, clock: str | None, *, quiet: bool, supervised: bool
) -> None:
    """Start the whole platform and stay until told to stop."""
    from feilun.app.terminal import say

    config = configured(project, port, clock)
    if not quiet:  # before what is slow to import
        say(_("Starting the platform of {folder} on {url}.", folder=config.root, url=config.url))
    from feilun.app import compose, process
    from feilun.app.config import prepare_data
    from feilun.app.evolving import check_events
    from feilun.app.supervisor import parts_of
    from feilun.app.supervisor import up as run_all
    from feilun.app.syncing import check_sources
    from feilun.cli.welcome import welcome

    if supervised:
        process.follow_parent()
    definitions = compose.definitions(config)
    check_sources(config, definitions)
    check_events(config, definitions)
    prepare_data(config)
    if config.lake and not compose.lake_installed() and not quiet:
        say(
            _(
                "There is no lake, and the log is all that keeps history. For one: {command}; "
                "without this line: [platform] lake = false in feilun.toml.",
                command='pip install "feilun[lake]"',
            )
        )
    options = ["--port", str(config.port), "--clock", config.clock]
    parts = parts_of(config, definitions)
    if not quiet:
        say(_("Starting {parts}; this takes seconds.", parts=", ".join(parts)))
    run_all(
        config,
        parts,
        options,
        lambda: None if quiet else welcome(config, definitions),
    )


@click.command("serve", help=_("Run one part alone."))
@click.argument(
    "part",
    type=click.Choice(["gateway", "engine", "flywheel", "sync", "archiver", "encoder"]),
    metavar="PART",
    help=_("gateway, engine, flywheel, sync, archiver or encoder"),
)
@project_option
@port_option
@clock_option
@supervised_option
def serve(
    part: str, project: Path | None, port: int | None, clock: str | None, *, supervised: bool
) -> None:
    """Run one part until told to stop."""
    import logging.config

    from feilun.app import parts, process
    from feilun.app.config import prepare_data
    from feilun.app.locks import ProcessLock
    from feilun.app.logs import LOGGING
    from feilun.errors import FeilunError

    config = configured(project, port, clock)
    prepare_data(config)
    if supervised:
        process.follow_parent()
    logging.config.dictConfig(LOGGING)
    try:
        with ProcessLock(config.run_path, part) as lock:
            parts.PARTS[part](config, lock)
    except FeilunError:
        raise
    except Exception:
        logging.getLogger("feilun.app").exception("the %s failed", part)
        raise


@click.command("status", help=_("Show what runs, how far it is, and what is in production."))
@project_option
@json_option
def status(project: Path | None, *, as_json: bool) -> int:
    """Show the processes and, if the gateway answers, where everything stands."""
    from feilun.app import compose
    from feilun.app.locks import holder
    from feilun.app.supervisor import PARTS
    from feilun.app.syncing import statuses
    from feilun.app.terminal import complain, say_json
    from feilun.cli.calls import call
    from feilun.cli.sync import say_statuses, statuses_as_json
    from feilun.errors import FeilunError, Unavailable

    config = configured(project)
    tables: dict[str, SyncStatus] = {}
    try:
        tables = statuses(config)
    except FeilunError as error:  # what else there is to show is shown all the same
        complain(error.message, error.hint)
    sync = ("sync",) if tables else ()
    archiver = ("archiver",) if config.lake and compose.lake_installed() else ()
    encoder = ("encoder",) if (config.run_path / "encoder.lock").exists() else ()
    parts = (*PARTS, *sync, *archiver, *encoder)
    processes = {name: holder(config.run_path, name) for name in ("up", *parts)}
    try:
        platform = call(config, "/status")
    except Unavailable:
        platform = None
    if as_json:
        alive = {name: {"pid": h[0], "state": h[1]} if h else None for name, h in processes.items()}
        say_json(
            {
                "url": config.url,
                "processes": alive,
                "platform": platform,
                "tables": statuses_as_json(tables),
            }
        )
    else:
        _show_status(config.url, processes, platform)
        if tables:
            say_statuses(tables)
    return 3 if platform is None else 0


def _show_status(
    url: str, processes: dict[str, tuple[int, str] | None], platform: dict[str, Any] | None
) -> None:
    from feilun.app.terminal import complain, say, say_table

    states = {"ready": _("ready"), "starting": _("starting")}
    say_table(
        (_("process"), _("pid"), _("state")),
        [
            (name, held[0] if held else None, states[held[1]] if held else _("not running"))
            for name, held in processes.items()
        ],
    )
    if platform is None:
        complain(_("The gateway at {url} does not answer.", url=url), _("Start it: feilun up"))
        return
    say_table(
        (_("model"), _("version"), _("since offset"), _("turns"), _("last turn")),
        [
            (name, model["version"], model["since_offset"], *_turns(platform, name))
            for name, model in platform["models"].items()
        ],
    )
    say(
        _(
            "{events} records in the log, {lag} of them not folded yet.",
            events=platform["log_end"],
            lag=platform["lag"],
        )
    )
    late = {name: count["late"] for name, count in platform["events"].items() if count["late"]}
    for name, count in late.items():
        say(_("{count} late {event} events: kept, and counted nowhere.", count=count, event=name))
    for model, skew in platform["skew"].items():
        _show_skew(model, skew)
    for problem in platform["problems"]:
        say(_("problem: {problem}", problem=problem))


def _show_skew(model: str, skew: dict[str, Any]) -> None:
    """Say how many of the vectors that were served training computes in the same way."""
    from feilun.app.terminal import say

    if not skew["requests"]:
        return
    wrong = {name: found for name, found in skew["features"].items() if found["mismatched"]}
    if not wrong:
        say(
            _(
                "{model}: no skew in {requests} audited requests.",
                model=model,
                requests=skew["requests"],
            )
        )
    for name, found in wrong.items():
        say(
            _(
                "{model}: skew: {feature} was served otherwise than training computes it in "
                "{mismatched} of {audited} rows.",
                model=model,
                feature=name,
                mismatched=found["mismatched"],
                audited=found["audited"],
            )
        )


def _turns(platform: dict[str, Any], model: str) -> tuple[object, object]:
    loop = platform["flywheels"].get(model)
    if loop is None:
        return None, None
    return loop["turns"], loop["last"]["state"] if loop["last"] else None
