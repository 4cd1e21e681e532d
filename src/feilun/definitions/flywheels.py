"""Flywheels: when a model takes a turn, and what lets its challenger through."""

from __future__ import annotations

from dataclasses import dataclass

from feilun.definitions.events import Event
from feilun.definitions.models import Model
from feilun.definitions.sites import Site, calling_site


@dataclass(frozen=True, slots=True)
class After:
    """So many new events, or new outcomes of the model."""

    count: int
    event: type[Event] | None


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a turn is due: as soon as one of its conditions is met. Join triggers with ``|``."""

    conditions: tuple[After, ...]

    def __or__(self, other: Trigger) -> Trigger:
        """Be due when either is."""
        return Trigger(self.conditions + other.conditions)


def after(n: int, event: type[Event] | None = None) -> Trigger:
    """Take a turn after ``n`` new events; without an event, after ``n`` new joined outcomes.

    Examples
    --------
    >>> after(1000) | after(50)
    Trigger(conditions=(After(count=1000, event=None), After(count=50, event=None)))
    """
    return Trigger((After(n, event),))


@dataclass(frozen=True, slots=True)
class Gate:
    """When a challenger may replace the champion. Made by :func:`better` and :func:`no_worse`."""

    confidence: float
    margin: float


def better(*, confidence: float = 0.95) -> Gate:
    """Let a challenger through whose advantage is above zero by its interval."""
    return Gate(confidence, 0.0)


def no_worse(*, margin: float, confidence: float = 0.95) -> Gate:
    """Let a challenger through that is worse by less than ``margin``, in units of the metric."""
    return Gate(confidence, margin)


class Flywheel:
    """The loop of one model.

    Parameters
    ----------
    model : Model
        What learns.
    turn : Trigger
        When it takes a turn.
    gate : Gate
        What lets the challenger through.
    """

    __slots__ = ("gate", "model", "site", "turn")

    def __init__(self, model: Model, *, turn: Trigger, gate: Gate) -> None:
        self.model = model
        self.turn = turn
        self.gate = gate
        self.site: Site = calling_site()


class Settings:
    """What holds for the whole project.

    Parameters
    ----------
    timezone : str
        An IANA name: where the project's days begin and end.
    owner : str
        The owner of whatever does not name its own.
    """

    __slots__ = ("owner", "site", "timezone")

    def __init__(self, *, timezone: str = "UTC", owner: str = "") -> None:
        self.timezone = timezone
        self.owner = owner
        self.site: Site = calling_site()
