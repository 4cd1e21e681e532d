"""What has changed in a project since its events were stored, and since its API was described."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from feilun.app import compose
from feilun.app.config import Config
from feilun.definitions.evolution import differences
from feilun.definitions.specs import Project
from feilun.errors import ConfigError, DefinitionError
from feilun.i18n import _
from feilun.records.schema import refuse_incompatible, stored_shapes


def check_events(config: Config, project: Project) -> dict[str, list[str]]:
    """Return what is new in each event that has changed, by name; nothing is written.

    Raises
    ------
    DefinitionError
        If an event has changed so that its old records and new ones cannot live together.
    """
    if not config.log_path.exists():
        return {}
    with closing(compose.event_log(config)) as log:
        schemas, counts = log.schemas(), log.counts()
    refuse_incompatible(project.events.values(), schemas, counts)
    known = stored_shapes(schemas, counts)
    said = {event.name: differences(known, event) for event in project.events.values()}
    return {name: changed for name, changed in said.items() if changed}


def check_api(config: Config, project: Project, before: Path) -> None:
    """Compare the API with an earlier description of it.

    Raises
    ------
    DefinitionError
        If callers of the earlier one could not bear the changes.
    ConfigError
        If the file is no description.
    """
    from feilun.serving.description.api_changes import breaking_changes

    try:
        described = json.loads(before.read_text(encoding="utf-8"))
        problems = breaking_changes(described, compose.api_description(config, project))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            _("{path} is not the description of an API: {reason}.", path=before, reason=error),
            _("Write one: feilun client openapi --out DIR"),
        ) from error
    if problems:
        raise DefinitionError(problems)
