"""Compiles flywheels, and says what is wrong with them."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

from collections.abc import Sequence

from feilun.definitions.events import Event
from feilun.definitions.flywheels import Flywheel, Gate, Trigger
from feilun.definitions.models import Model
from feilun.definitions.problems import Problems, located, nearest
from feilun.definitions.scope import Scope
from feilun.definitions.specs import FlywheelSpec, GateSpec, TriggerSpec
from feilun.definitions.tables import Table


def compile_flywheels(flywheels: Sequence[Flywheel], scope: Scope) -> dict[str, FlywheelSpec]:
    """Compile flywheels, by the name of their model."""
    problems = scope.problems
    specs: dict[str, FlywheelSpec] = {}
    for flywheel in flywheels:
        where = located(flywheel.site, "Flywheel")
        triggers = _triggers(where, flywheel.turn, scope)
        gate = _gate(where, flywheel.gate, problems)
        if not isinstance(flywheel.model, Model):
            problems.add(
                where,
                f"{flywheel.model!r} is not a model.",
                "Name a function that @fl.model decorates. "
                + nearest(flywheel.model, (spec.name for spec in scope.models.values())),
            )
            continue
        model = scope.models.get(flywheel.model)
        if model is None or gate is None:
            continue  # either is wrong, and was noted
        if model.train is None:
            problems.add(
                where,
                f"nobody here trains the model {model.name!r}, which is adopted.",
                "Take its flywheel away, or write a function that trains it with @fl.model.",
            )
            continue
        if model.name in specs:
            problems.add(
                where,
                f"the model {model.name!r} has a flywheel already.",
                "Keep one; join its triggers with |.",
            )
            continue
        specs[model.name] = FlywheelSpec(model.name, triggers, gate)
    return specs


def _triggers(where: str, turn: object, scope: Scope) -> tuple[TriggerSpec, ...]:
    problems = scope.problems
    if not isinstance(turn, Trigger):
        problems.add(where, f"turn={turn!r} is not a trigger.", "Write fl.after(1000).")
        return ()
    triggers: list[TriggerSpec] = []
    for condition in turn.conditions:
        count, event = condition.count, condition.event
        if type(count) is not int or count < 1:
            problems.add(where, f"after({count!r}) counts nothing.", "Write 1 or more.")
        if event is None:
            triggers.append(TriggerSpec(count, None))
        elif not (isinstance(event, type) and issubclass(event, Event)):
            problems.add(
                where, f"after() counts events, not {event!r}.", "Name an event, or leave it out."
            )
        elif issubclass(event, Table):
            problems.add(
                where,
                f"after() counts what clients send, and {event.__name__} is a table.",
                "Name an event, or leave it out to count outcomes.",
            )
        elif event in scope.events:
            triggers.append(TriggerSpec(count, scope.events[event].name))
    return tuple(triggers)


def _gate(where: str, gate: object, problems: Problems) -> GateSpec | None:
    if not isinstance(gate, Gate):
        problems.add(where, f"gate={gate!r} is not a gate.", "Write fl.better().")
        return None
    if not _within(gate.confidence, 0.5, 1):
        problems.add(
            where,
            f"confidence={gate.confidence!r} is not a confidence.",
            "Write 0.5 or more and less than 1, such as 0.95.",
        )
        return None
    if not _within(gate.margin, 0, float("inf")):
        problems.add(where, f"margin={gate.margin!r} is not a margin.", "Write 0 or more.")
        return None
    return GateSpec(float(gate.confidence), float(gate.margin))


def _within(number: object, low: float, high: float) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and low <= number < high
