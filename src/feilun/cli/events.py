"""Events and what is made of them: send, import, features, rebuild, events bad."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feilun.cli.groups import InOrder
from feilun.cli.options import PATH, configured, json_option, project_option
from feilun.errors import InputError
from feilun.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feilun.app.config import Config
    from feilun.ports.event_log import BadEvent

BATCH = 500


@click.command("send", help=_("Send an event, or a file of events, to the running platform."))
@click.argument("event", required=False, metavar="[EVENT]", help=_("The event's name."))
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...", help=_("Its fields."))
@click.option(
    "--file", type=PATH, metavar="FILE", help=_("JSON lines, one event each; - reads stdin.")
)
@project_option
@json_option
def send(
    event: str | None,
    fields: tuple[str, ...],
    *,
    file: Path | None,
    project: Path | None,
    as_json: bool,
) -> int:
    """Send events over HTTP; print what became of each."""
    from feilun.app.terminal import say, say_json
    from feilun.cli.calls import call

    config = configured(project)
    if (event is None) == (file is None):
        raise InputError(
            _("Give an event with its fields, or --file."),
            "feilun send order_line user_id=1 item_id=2",
        )
    events = _lines(file) if file is not None else [_one(config, str(event), fields)]
    answers: list[Any] = []
    for start in range(0, len(events), BATCH):
        reply = call(config, "/api/events", {"events": events[start : start + BATCH]})
        answers += reply["events"]
    if as_json:
        say_json({"events": answers})
    else:
        for answer in answers:
            say(_answer_line(answer))
    refused = sum(answer["status"] in ("bad", "conflict") for answer in answers)
    return 1 if refused else 0


@click.group("events", InOrder, no_args_is_help=False, help=_("Look at stored events."))
def group() -> None:
    """Look at stored events."""


@group.command("bad", help=_("List what could not be used, and why."))
@click.option(
    "--from",
    "start",
    type=click.IntRange(min=0),
    default=0,
    help=_("The first number to show."),
)
@click.option("--limit", type=click.IntRange(min=1), default=100, help=_("At most so many."))
@project_option
@json_option
def bad(start: int, limit: int, project: Path | None, *, as_json: bool) -> None:
    """List bad events with their reasons."""
    from contextlib import closing

    from feilun.app import compose
    from feilun.app.terminal import say, say_json, say_table
    from feilun.clock import to_iso
    from feilun.events.bad_events import decoded, difference

    config = configured(project)
    with closing(compose.event_log(config)) as log:
        found, schemas = log.bad(start, limit), log.schemas()
        records = [decoded(event, schemas) for event in found]
        differ = [difference(event, log) for event in found]
    if as_json:
        told = [
            {**e._asdict(), "raw": e.raw.decode(errors="replace"), "record": record, "differs": d}
            for e, record, d in zip(found, records, differ, strict=True)
        ]
        say_json({"bad": told})
    elif not found:
        say(_("No bad events."))
    else:
        say_table(
            (_("number"), _("received"), _("source"), _("reason"), _("event")),
            [
                (
                    e.number,
                    to_iso(e.received)[:19],
                    e.source,
                    _conflict(record, d) if record and d else e.reason,
                    _shown(e, record),
                )
                for e, record, d in zip(found, records, differ, strict=True)
            ],
        )


def _shown(event: BadEvent, record: dict[str, Any] | None) -> str:
    from feilun.app.terminal import json_line

    text = event.raw[:200].decode(errors="replace") if record is None else json_line(record)
    return text[:200]


def _conflict(record: dict[str, Any], differs: dict[str, tuple[Any, Any]]) -> str:
    changes = [
        _("{name} was {then}, now {now}", name=name, then=repr(then), now=repr(now))
        for name, (then, now) in differs.items()
    ]
    return _(
        "Id {id} came before with other content: {changes}.",
        id=repr(record["id"]),
        changes="; ".join(changes),
    )


def _one(config: Config, name: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Return the event that the command line describes; values get the types of its fields."""
    from feilun.app.compose import definitions
    from feilun.cli.values import pairs_of, typed

    spec = definitions(config).events.get(name)
    if spec is None:
        known = ", ".join(definitions(config).events)
        raise InputError(
            _("There is no event {name}.", name=repr(name)), _("Known: {names}.", names=known)
        )
    dtypes = {field.name: field.dtype for field in spec.fields}
    return {"event": name, "fields": typed(pairs_of(pairs), dtypes)}


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines. A line without an id gets one made of its text, so sending twice is safe."""
    import hashlib
    import json
    import sys

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(_("{path} cannot be read: {reason}.", path=path, reason=error)) from error
    events = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError as error:
            raise InputError(
                _(
                    "{path}, line {number}, is not JSON: {reason}.",
                    path=path,
                    number=number,
                    reason=error,
                ),
                _("Nothing was sent. Mend the line."),
            ) from error
        if not isinstance(event, dict):
            raise InputError(
                _("{path}, line {number}, is not a JSON object.", path=path, number=number)
            )
        name = hashlib.blake2b(f"{number}\0{line}".encode(), digest_size=16).hexdigest()
        events.append({"id": name, **event})
    return events


def _answer_line(answer: dict[str, Any]) -> str:
    states = {
        "accepted": _("accepted"),
        "late": _("late: kept, but never counted"),
        "duplicate": _("duplicate: counted before"),
        "conflict": _("conflict: the same id came before with other content"),
        "erased": _("erased: its subject was erased since"),
        "bad": _("bad"),
    }
    line = f"{answer.get('id') or ''} {states.get(answer['status'], answer['status'])}".strip()
    if answer.get("offset") is not None:
        line += " " + _("at offset {offset}", offset=answer["offset"])
    return f"{line}: {answer['reason']}" if answer.get("reason") else line
