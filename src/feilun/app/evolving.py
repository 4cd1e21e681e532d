"""What has changed in a project's events since the log holds records of them."""

from __future__ import annotations

from contextlib import closing

from feilun.app import compose
from feilun.app.config import Config
from feilun.definitions.evolution import differences
from feilun.definitions.specs import Project
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
