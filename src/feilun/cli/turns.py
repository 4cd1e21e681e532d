"""What became of a turn, as whoever began it by hand wants to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feilun.app.terminal import say
from feilun.i18n import _

SHORTEST = 0.05
"""Seconds below which nobody asks where they went."""


def say_turn(found: Mapping[str, Any], metric: str, columns: int, confidence: float) -> None:
    """Print the record of a turn: the decision first, then what it rests on.

    Parameters
    ----------
    found : mapping
        What ``turn_record`` returned.
    metric : str
        The model's metric.
    columns : int
        How many columns the model reads.
    confidence : float
        That of the gate's interval.
    """
    said = {"turn": found["turn"], "model": found["model"], "state": _STATES[found["state"]]()}
    say(_("Turn {turn} of {model}: {state}.", **said))
    rows = [
        (_("version"), _version(found)),
        (_("reason"), found["reason"] if found["state"] != "promoted" else None),
        (_("data"), _data(found["data"], columns)),
        (metric, _metric(found)),
        (_("difference"), _difference(found, confidence)),
        (_("skew"), _skew(found["skew"])),
        (_("gateway"), _behind(found["promotion"])),
        (_("seconds"), _seconds(found["seconds"])),
    ]
    for name, text in rows:
        if text:
            say(_("{name}: {text}", name=name, text=text))


def _version(found: Mapping[str, Any]) -> str:
    version = found["challenger"]["version"]
    if version is None:
        return ""
    if found["state"] == "promoted":
        return _("{version}, in production", version=version)
    champion = found["champion"]["version"]
    if champion is None:
        return _("{version}, registered only; nothing is in production", version=version)
    return _(
        "{version}, registered only; version {champion} stays in production",
        version=version,
        champion=champion,
    )


def _data(data: Mapping[str, Any] | None, columns: int) -> str:
    if data is None:
        return ""
    return _(
        "{requests} requests ({train} to train on, {holdout} to judge by), {rows} rows, "
        "{columns} columns, from {source}",
        requests=f"{data['requests']:,}",
        train=f"{data['train_requests']:,}",
        holdout=f"{data['holdout_requests']:,}",
        rows=f"{data['rows']:,}",
        columns=columns,
        source=_SOURCES[data["source"]](),
    )


def _metric(found: Mapping[str, Any]) -> str:
    if found["compared_with"] is None:
        return ""
    return _(
        "{new}; {rival}: {old}",
        new=_number(found["challenger"]["metric"]),
        rival=_rival(found["compared_with"]),
        old=_number(found["champion"]["metric"]),
    )


def _rival(name: str) -> str:
    kind, _space, number = name.partition(" ")
    if kind == "version":
        return _("version {version}", version=number)
    return {"what was served": _("what was served"), "a constant": _("a constant")}.get(name, name)


def _difference(found: Mapping[str, Any], confidence: float) -> str:
    interval = found["interval"]
    if interval is None or interval["estimate"] is None:
        return ""
    return _(
        "{estimate} ({confidence} interval {low} to {high}, over {clusters} clusters)",
        estimate=f"{interval['estimate']:+.4g}",
        confidence=f"{confidence:.0%}",
        low=_signed(interval["low"]),
        high=_signed(interval["high"]),
        clusters=f"{interval['clusters']:,}",
    )


def _skew(skew: Mapping[str, Any] | None) -> str:
    if skew is None or not skew["requests"]:
        return ""
    if not skew["mismatched"]:
        return _("none in {requests} audited requests", requests=f"{skew['requests']:,}")
    return ", ".join(f"{name}: {rows:,}/{skew['rows']:,}" for name, rows in
                     skew["mismatched"].items())  # fmt: skip


def _behind(promotion: Mapping[str, Any] | None) -> str:
    if promotion is None or not promotion["behind"]:
        return ""
    workers = ", ".join(promotion["behind"])
    return _("Not served yet by {workers}; see feilun status.", workers=workers)


def _seconds(steps: Mapping[str, float]) -> str:
    each = ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items())
    total = sum(steps.values())
    return f"{total:.1f} ({each})" if total >= SHORTEST else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4g}"


_STATES = {
    "promoted": lambda: _("promoted"),
    "rejected": lambda: _("rejected by the gate"),
    "failed": lambda: _("failed"),
    "running": lambda: _("still running"),
}
_SOURCES = {
    "predictions": lambda: _("logged predictions"),
    "history": lambda: _("imported history"),
}
