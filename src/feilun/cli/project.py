"""A project's own files: init, check, version."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feilun.cli.options import PATH, configured, json_option, project_option
from feilun.errors import ConfigError
from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.definitions.specs import ExpressionSpec, FeatureSpec, Project

TEMPLATES = Path(__file__).parents[1] / "demo" / "templates"


@click.command("init", help=_("Begin a project from a template in this folder."))
@click.argument(
    "template",
    default="shop",
    metavar="[TEMPLATE]",
    help=_("What to begin with; default, and now the only one: shop."),
)
@click.option("--project", type=PATH, metavar="DIR", help=_("Where; default: here."))
def init(template: str, project: Path | None) -> None:
    """Copy a template's files; never over existing ones."""
    from feilun.app.terminal import say

    templates = {path.name: path for path in TEMPLATES.iterdir() if path.is_dir()}
    if template not in templates:
        raise ConfigError(
            _("There is no template {name}.", name=repr(template)),
            _("Known: {names}.", names=", ".join(sorted(templates))),
        )
    target = project or Path()
    files = sorted(path for path in templates[template].iterdir() if path.is_file())
    present = [path.name for path in files if (target / path.name).exists()]
    if present:
        raise ConfigError(
            _("{folder} has {files} already.", folder=target.resolve(), files=", ".join(present)),
            _("Choose an empty folder: feilun init {name} --project DIR", name=template),
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path in files:
            (target / path.name).write_bytes(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            _("{folder} cannot be written: {reason}.", folder=target, reason=error.strerror)
        ) from error
    for path in files:
        say(_("wrote {path}", path=target / path.name))
    if project is None:
        say(_("Next: feilun up"))
    else:
        say(_("Next: cd {folder} && feilun up", folder=shlex.quote(str(target))))


@click.command("check", help=_("Check the definitions and show what they define."))
@project_option
@click.option(
    "--api",
    type=PATH,
    metavar="FILE",
    help=_("An earlier openapi.json: is there anything that its callers could not bear?"),
)
@json_option
def check(project: Path | None, api: Path | None, *, as_json: bool) -> None:
    """Compile the definitions; show every problem, or everything they define."""
    from feilun.app.compose import definitions
    from feilun.app.evolving import check_api, check_events
    from feilun.app.syncing import check_sources
    from feilun.app.terminal import say_json

    config = configured(project)
    found = definitions(config)
    check_sources(config, found)
    changes = check_events(config, found)
    if api is not None:
        check_api(config, found, api)
    if as_json:
        say_json({**_as_json(found), "changes": changes})
    else:
        _show(found, changes)


@click.command("version", help=_("Show Feilun's version."))
def version() -> None:
    """Print the installed version."""
    from importlib.metadata import version as installed

    from feilun.app.terminal import say

    say(installed("feilun"))


def _show(found: Project, changes: dict[str, list[str]]) -> None:
    from feilun.app.terminal import say, say_table

    say_table(
        (_("event"), _("fields")),
        [
            (event.name, ", ".join(f"{f.name}: {f.dtype}" for f in event.fields))
            for event in found.events.values()
        ],
    )
    say_table(
        (_("feature"), _("entity"), _("from"), _("window"), _("used by")),
        [
            (
                feature.address,
                ", ".join(entity.name for entity in view.entities),
                feature.formula,
                _window(feature),
                ", ".join(_users(found, feature)),
            )
            for view in found.views.values()
            for feature in view.readable
        ],
    )
    say_table(
        (_("API"), _("model"), _("judged by"), _("turn")),
        [
            (
                capability.path,
                ", ".join(capability.models),
                found.models[capability.model].label.event,
                _triggers(found, capability.model),
            )
            for capability in found.capabilities.values()
        ],
    )
    for event, changed in changes.items():
        say(
            _(
                "changed since its last record: {event}: {what}",
                event=event,
                what=", ".join(changed),
            )
        )
    say(_("{name}: everything is in order.", name=found.name))


def _as_json(found: Project) -> dict[str, Any]:
    return {
        "project": found.name,
        "timezone": found.timezone,
        "events": {
            event.name: {field.name: field.dtype for field in event.fields}
            for event in found.events.values()
        },
        "features": {
            feature.address: {
                "entity": [entity.name for entity in view.entities],
                "from": feature.formula,
                "window": _window(feature),
                "used_by": _users(found, feature),
            }
            for view in found.views.values()
            for feature in view.readable
        },
        "models": {
            model.name: {
                "features": [feature.address for feature in model.features],
                "label": model.label.event,
                "metric": model.metric,
                "turn": _triggers(found, model.name),
            }
            for model in found.models.values()
        },
        "capabilities": {c.path: c.model for c in found.capabilities.values()},
    }


def _window(feature: FeatureSpec | ExpressionSpec) -> str:
    """Write a window as a definition would: ``7d``, ``1h``, ``2 local days``, or nothing."""
    from feilun.clock import DAY, HOUR, MINUTE, SECOND
    from feilun.definitions.specs import ExpressionSpec

    if isinstance(feature, ExpressionSpec):
        return ""
    if feature.calendar:
        return _("today") if feature.calendar == 1 else _("{n} days", n=feature.calendar)
    if feature.window is None:
        return ""
    for unit, letter in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s")):
        if feature.window % unit == 0:
            return f"{feature.window // unit}{letter}"
    return f"{feature.window} µs"


def _users(found: Project, feature: FeatureSpec | ExpressionSpec) -> list[str]:
    return [
        model.name
        for model in found.models.values()
        if any(used.address == feature.address for used in (*model.features, *model.columns))
    ]


def _triggers(found: Project, model: str) -> str:
    if found.models[model].train is None:
        return _("adopted")
    loop = found.flywheels.get(model)
    if loop is None:
        return _("by hand")
    return " | ".join(
        _("{count} {event}", count=trigger.count, event=trigger.event or _("outcomes"))
        for trigger in loop.triggers
    )
