"""Who may call the gateway: team add, change, list, rotate, revoke."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from feilun.cli import usage
from feilun.cli.groups import InOrder
from feilun.cli.options import configured, json_option, project_option
from feilun.cli.team_store import acting, find, near, opened
from feilun.clock import SystemClock, to_iso
from feilun.errors import Conflict, InputError, UnknownName
from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.app.config import Config
    from feilun.ports.teams import Key, Team
    from feilun.serving.access.keys import MadeKey

GRACE = "1d"
"""How long the old key goes on being valid after a rotation."""
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_RESERVED_NAMES = frozenset({"feilun", "gateway"})  # sources of what the platform itself logs
_QUOTA = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)/s")

team_argument = click.argument("name", metavar="TEAM", help=_("The team's name."))
expires_option = click.option(
    "--expires", metavar="90d", help=_("How long the key is valid; default: always.")
)
can_option = partial(
    click.option,
    "--can",
    metavar="NAME,…",
    help=_("What it may call: capabilities, views, and events to send them."),
)
quota_option = partial(
    click.option,
    "--quota",
    metavar="200/s",
    help=_("How many requests a second it may send."),
)


@click.group("team", InOrder, no_args_is_help=False, help=_("Say who may call the gateway."))
def group() -> None:
    """Say who may call."""


@group.command("add", help=_("Add a team, and print its key once."))
@team_argument
@can_option(required=True)
@quota_option(required=True)
@expires_option
@project_option
@json_option
def add(
    name: str, can: str, quota: str, *, expires: str | None, project: Path | None, as_json: bool
) -> None:
    """Add a team; its key is shown now and never again."""
    from feilun.app.terminal import say
    from feilun.serving.access.keys import make_key

    config = configured(project)
    if not _NAME.fullmatch(name) or name in _RESERVED_NAMES:
        raise InputError(
            _("{name} cannot be the name of a team.", name=repr(name)),
            _(
                "Start with a lower-case letter; go on with those, digits, - and _; 40 at most; "
                "not feilun, not gateway."
            ),
        )
    scopes, rate = _scopes(config, can), _rate(quota)
    now = SystemClock().now()
    made = make_key(None if expires is None else now + _duration("--expires", expires))
    with opened(config) as store:
        before = store.load()
        if any(team.name == name and team.revoked is None for team in before.teams):
            raise Conflict(
                _("There is a team {name} already.", name=name),
                _("Another key: feilun team rotate {name}; other scopes: feilun team change {name}",
                  name=name),
            )  # fmt: skip
        team = store.add(name, scopes, rate, made.stored, at=now, by=acting())
    _show_key(team, made, as_json=as_json)
    if as_json:
        return
    say(_("With the key in FEILUN_KEY this works:"))
    say(f"\n    {_example_call(config, team.scopes[0])}\n")
    if not before.teams and config.keys == "auto":
        say(
            _(
                "This is the first team: from now on the gateway refuses every call without a key, "
                "those from this machine too. Commands and programs in this project find theirs "
                "in {path}.",
                path=config.token_path,
            )
        )


@group.command("change", help=_("Give a team other scopes or another quota; its key stays."))
@team_argument
@can_option()
@quota_option()
@project_option
def change(name: str, can: str | None, quota: str | None, project: Path | None) -> None:
    """Give a team other scopes, another quota, or both."""
    from feilun.app.terminal import say

    config = configured(project)
    if can is None and quota is None:
        raise InputError(
            _("Say what to change: --can, --quota or both."),
            f"feilun team change {name} --quota 5/s",
        )
    scopes = None if can is None else _scopes(config, can)
    rate = None if quota is None else _rate(quota)
    with opened(config) as store:
        find(store.load(), name)
        team = store.change(name, scopes, rate, at=SystemClock().now(), by=acting())
    say(_rights(team))


@group.command("list", help=_("Show the teams and their keys."))
@project_option
@json_option
def list_(project: Path | None, *, as_json: bool) -> None:
    """Show every team with its keys; of a key, its id alone."""
    from feilun.app.terminal import say, say_json, say_table

    with opened(configured(project)) as store:
        found = store.load()
    now = SystemClock().now()
    keys = {team.name: [k for k in found.keys if k.team == team.name] for team in found.teams}
    if as_json:
        say_json({"teams": [_as_json(team, keys[team.name], now) for team in found.teams]})
    elif not found.teams:
        say(_("No teams. Add one: feilun team add NAME --can events --quota 100/s"))
    else:
        states = {
            "valid": _("valid"),
            "expired": _("expired"),
            "revoked": _("revoked"),
        }
        say_table(
            (_("team"), _("may call"), _("quota"), _("key"), _("state"), _("made"), _("expires")),
            [
                (
                    team.name,
                    ", ".join(team.scopes),
                    f"{team.quota:g}/s",
                    key.id,
                    states[_state(key, now)],
                    to_iso(key.created)[:16],
                    None if key.expires is None else to_iso(key.expires)[:16],
                )
                for team in found.teams
                for key in keys[team.name]
            ],
        )


@group.command("rotate", help=_("Give a team a new key; the old one ends a day later."))
@team_argument
@click.option(
    "--now", "at_once", is_flag=True, help=_("End the old key at once: it is known to others.")
)
@click.option("--grace", metavar=GRACE, help=_("How much longer the old key is valid."))
@expires_option
@project_option
@json_option
def rotate(
    name: str,
    *,
    at_once: bool,
    grace: str | None,
    expires: str | None,
    project: Path | None,
    as_json: bool,
) -> None:
    """Give a team a new key, for as long as its last one was given, unless --expires says else."""
    from feilun.app.terminal import say
    from feilun.serving.access.keys import make_key

    config = configured(project)
    if at_once and grace is not None:
        raise InputError(_("--now and --grace exclude each other."))
    now = SystemClock().now()
    until = None if at_once else now + _duration("--grace", grace or GRACE)
    with opened(config) as store:
        known = store.load()
        find(known, name)
        last = [key for key in known.keys if key.team == name and key.revoked is None]
        made = make_key(_expiry(last, now, expires))
        team = store.rotate(name, made.stored, until=until, at=now, by=acting())
    _show_key(team, made, as_json=as_json)
    if as_json:
        return
    if until is None:
        say(_("Its other keys are revoked."))
    else:
        say(_("Its other keys end at {time} UTC, or before.", time=to_iso(until)[:16]))


@group.command("revoke", help=_("Take a team's keys away, at once."))
@team_argument
@project_option
def revoke(name: str, project: Path | None) -> None:
    """Take all keys of a team away; gateways refuse them within a second."""
    from feilun.app.terminal import say

    with opened(configured(project)) as store:
        find(store.load(), name, revoked_too=True)
        store.revoke(name, at=SystemClock().now(), by=acting())
    say(_("All keys of {name} are revoked.", name=name))


group.add_command(usage.usage)


def _scopes(config: Config, text: str) -> list[str]:
    """Return what ``--can`` names, each once.

    Raises
    ------
    UnknownName
        If one of them is not there.
    """
    from feilun.app.compose import definitions
    from feilun.serving.worker import EVENTS_SCOPE

    found = definitions(config)
    known = [*found.capabilities, *found.views, EVENTS_SCOPE]
    words = [word.strip().removeprefix("/api/") for word in text.split(",") if word.strip()]
    if not words:
        raise InputError(_("--can names nothing."), _("Known: {names}.", names=", ".join(known)))
    for word in words:
        if word not in known:
            raise UnknownName(
                _("There is no capability or view {name}.", name=repr(word)), near(word, known)
            )
    return list(dict.fromkeys(words))


def _rate(text: str) -> float:
    match = _QUOTA.fullmatch(text)
    rate = float(match[1]) if match else 0.0
    if not rate:
        raise InputError(
            _("--quota {text} is not a number of requests a second.", text=text),
            _("Write it like 200/s, or 0.5/s for one every two seconds."),
        )
    return rate


def _duration(option: str, text: str) -> int:
    from feilun.definitions.windows import WindowError, parse_duration

    try:
        return parse_duration(text)
    except WindowError as error:
        raise InputError(f"{option} {error.what}", error.fix) from error


def _expiry(keys: Sequence[Key], now: int, expires: str | None) -> int | None:
    if expires is not None:
        return now + _duration("--expires", expires)
    if not keys or keys[-1].expires is None:
        return None
    return now + keys[-1].expires - keys[-1].created


def _state(key: Key, now: int) -> str:
    if key.revoked is not None:
        return "revoked"
    return "valid" if key.expires is None or now < key.expires else "expired"


def _as_json(team: Team, keys: Sequence[Key], now: int) -> dict[str, object]:
    shown = [
        {
            "id": key.id,
            "state": _state(key, now),
            "created": key.created,
            "expires": key.expires,
            "revoked": key.revoked,
        }
        for key in keys
    ]
    return {**team._asdict(), "keys": shown}


def _example_call(config: Config, scope: str) -> str:
    """Return a command that calls what a team may call."""
    from feilun.app.compose import definitions
    from feilun.serving.description.docs_page import curl
    from feilun.serving.description.openapi import describe

    path = f"/api/{scope}"
    item = describe(definitions(config), "")["paths"][path]
    method = next(iter(item))
    return curl(method, path, item[method], config.url, keys=True)


def _rights(team: Team) -> str:
    return _(
        "{name} may call {paths}, {quota} times a second.",
        name=team.name,
        paths=", ".join(f"/api/{scope}" for scope in team.scopes),
        quota=f"{team.quota:g}",
    )


def _show_key(team: Team, made: MadeKey, *, as_json: bool) -> None:
    from feilun.app.terminal import say, say_json

    if as_json:
        say_json({"team": team._asdict(), "id": made.stored.id, "key": made.text})
        return
    say(_("The key of {name}, shown this once:", name=team.name))
    say(f"\n    {made.text}\n")
    say(_rights(team))
    if made.stored.expires is not None:
        say(_("The key expires at {time} UTC.", time=to_iso(made.stored.expires)[:16]))
    say(_("It goes into the header: {header}", header="Authorization: Bearer KEY"))
