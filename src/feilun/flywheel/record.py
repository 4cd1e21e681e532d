"""The record of a turn: its events, data, model, decision, effect and cost."""

from __future__ import annotations

from typing import Any

from feilun.ports.turn_store import Turn, TurnStore


def turn_record(turns: TurnStore, turn: Turn) -> dict[str, Any]:
    """Return everything known of a turn, as JSON values.

    Keys that a turn has not come to yet are None. Times are µs UTC; ``seconds`` is the cost of
    each step.
    """
    steps = {step.name: step for step in turns.steps(turn.id)}
    output = {name: step.output for name, step in steps.items()}
    collected, decision = output.get("collect", {}), output.get("gate", {})
    champion = collected.get("champion")
    reason = output.get("failed") or output.get("reject") or decision
    return {
        "turn": turn.id,
        "model": turn.model,
        "trigger": turn.trigger,
        "cut": turn.cut,
        "state": turn.state,
        "started": turn.started,
        "ended": turn.ended,
        "data": {name: value for name, value in collected.items() if name != "champion"} or None,
        "challenger": {
            "version": output.get("register", {}).get("version"),
            "bundle": output.get("train", {}).get("bundle"),
            "archived": output.get("train", {}).get("archived"),
            "metric": decision.get("challenger"),
        },
        "champion": {
            "version": champion[2] if champion else None,
            "bundle": champion[3] if champion else None,
            "metric": decision.get("champion"),
        },
        "compared_with": decision.get("compared_with"),
        "interval": decision.get("interval"),
        "skew": output.get("audit"),
        "reason": reason.get("reason"),
        "promotion": output.get("promote"),
        "effect": output.get("effect"),
        "seconds": {name: step.seconds for name, step in steps.items()},
    }
