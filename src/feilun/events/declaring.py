"""Tells the log what events look like, before the first of them; refuses what cannot live there."""

from __future__ import annotations

from collections.abc import Iterable

from feilun.definitions.specs import EventSpec
from feilun.ports.event_log import EventLog
from feilun.records.schema import refuse_incompatible, schemas_of


def declare(log: EventLog, events: Iterable[EventSpec]) -> None:
    """Keep in the log what records of these events mean. Idempotent; cheap when nothing is new.

    Raises
    ------
    DefinitionError
        If an event has changed so that its old records and new ones cannot live together; nothing
        was stored.
    Conflict
        If one of their schema ids has another meaning in the log; nothing was stored.
    StoreFull
        If there is no space for what is new.
    """
    events = tuple(events)
    refuse_incompatible(events, log.schemas(), log.counts())
    log.declare(schemas_of(events))
