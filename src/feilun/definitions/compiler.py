"""From a module of definitions to one frozen project, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType, ModuleType

from feilun.definitions.collecting import Found, collect
from feilun.definitions.compile_capabilities import compile_capabilities
from feilun.definitions.compile_events import compile_entities, compile_events
from feilun.definitions.compile_flywheels import compile_flywheels
from feilun.definitions.compile_models import compile_models
from feilun.definitions.compile_views import compile_views
from feilun.definitions.flywheels import Settings
from feilun.definitions.problems import Problems, located, nearest
from feilun.definitions.scope import Scope
from feilun.definitions.specs import Project
from feilun.errors import DefinitionError


def compile_project(module: ModuleType, *, name: str | None = None) -> Project:
    """Compile what a module defines.

    The definitions in the module's namespace make the project, with those that they refer to.
    Nothing is registered anywhere and nothing of the module is changed: the same module gives an
    equal project each time.

    Parameters
    ----------
    module : module
        An imported module of definitions.
    name : str, optional
        The project's name; by default the last part of the module's.

    Raises
    ------
    DefinitionError
        If anything is wrong; its ``problems`` are all that is.
    """
    found = collect(module)
    scope = Scope()
    project = _compile(found, name or module.__name__.rpartition(".")[2], scope)
    if scope.problems.found:
        raise DefinitionError(list(dict.fromkeys(scope.problems.found)))
    return project


def _compile(found: Found, name: str, scope: Scope) -> Project:
    _apply_settings(found.settings, scope)
    compile_entities(found.entities, scope)
    compile_events(found.events, scope)
    compile_views(found.views, scope)
    compile_models(found.models, scope)
    capabilities = compile_capabilities(found.capabilities, scope)
    flywheels = compile_flywheels(found.flywheels, scope)
    return Project(
        name=name,
        timezone=scope.timezone,
        entities=MappingProxyType(scope.entities),
        events=MappingProxyType({spec.name: spec for spec in scope.events.values()}),
        views=MappingProxyType({spec.name: spec for spec in scope.views.values()}),
        models=MappingProxyType({spec.name: spec for spec in scope.models.values()}),
        capabilities=MappingProxyType({spec.name: spec for spec in capabilities}),
        flywheels=MappingProxyType(flywheels),
    )


def _apply_settings(settings: Sequence[Settings], scope: Scope) -> None:
    for extra in settings[1:]:
        scope.problems.add(
            located(extra.site, "Settings"),
            f"a project has one Settings, and there is one at {settings[0].site}.",
            "Keep one of them.",
        )
    if settings:
        scope.timezone, scope.owner = settings[0].timezone, settings[0].owner
        _check_timezone(settings[0], scope.problems)


def _check_timezone(settings: Settings, problems: Problems) -> None:
    if settings.timezone == "UTC":
        return  # known even to a machine without time zones
    from zoneinfo import ZoneInfo, available_timezones

    try:
        ZoneInfo(settings.timezone)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        zones = available_timezones()
        hint = nearest(settings.timezone, zones)
        problems.add(
            located(settings.site, "Settings"),
            f"timezone={settings.timezone!r} is unknown.",
            "This machine knows no time zones: pip install tzdata."
            if not zones
            else hint
            if hint.startswith("Did")
            else 'Write an IANA name, such as "Asia/Shanghai".',
        )
