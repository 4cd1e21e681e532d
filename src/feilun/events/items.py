"""How decoded events become records: those of one kind at once, a field after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from feilun.clock import DAY
from feilun.definitions.specs import EventSpec
from feilun.errors import InputError
from feilun.events.ids import uuid7
from feilun.events.shapes import Item, Shape, to_microseconds
from feilun.records.contents import contents, subjects_of
from feilun.records.lists import extremes
from feilun.records.rows import Rows

FARTHEST = 3_660 * DAY
"""How far (ten years, in µs) a client's clock may be from ours."""


class Receipt(NamedTuple):
    """What goes for all the events of a body: who sent it and when it came, µs UTC.

    ``skew`` is how far the client's clock is behind ours. In a replay an event is received at its
    own time.
    """

    source: str
    received: int
    skew: int
    replay: bool


def rows_of(shape: Shape, items: Sequence[Item], receipt: Receipt) -> Rows:
    """Return the records of events of one kind, in their order.

    Raises
    ------
    InputError
        If one of them cannot be a record.
    """
    values = shape.values([item.fields for item in items])
    said = _said([item.time for item in items])
    client_times = _client_times(said, receipt)
    receipts = client_times if receipt.replay else [receipt.received] * len(items)
    found = contents(
        shape.spec.name,
        values,
        said,
        grown=_has_grown(shape.spec),
        subject=shape.subject,
        about=shape.about,
    )
    return Rows(
        schema=[shape.schema] * len(items),
        source=[receipt.source] * len(items),
        id=_ids([item.id for item in items], client_times),
        time=_effective_times(said, client_times, receipt),
        received=receipts,
        client_time=client_times,
        available=receipts,
        subject=found.subjects,
        digest=found.digests,
        body=found.bodies,
        flags=[0] * len(items),
    )


def _said(times: list[Any]) -> list[int | None]:
    """Return times of the wire in µs UTC; None where an event has none."""
    if extremes(times) is not None:
        return times
    return [None if time is None else to_microseconds(time) for time in times]


def _ids(ids: list[Any], client_times: Sequence[int]) -> list[str]:
    """Return the ids, and one for each event that has none."""
    if all(ids):
        return ids
    return [id or uuid7(time) for id, time in zip(ids, client_times, strict=True)]


def _client_times(said: Sequence[int | None], receipt: Receipt) -> list[int]:
    """Return when each event happened by its client's clock; at its receipt if it did not say."""
    if receipt.replay and None in said:
        raise InputError("time: is missing; a replay takes its clock from the events.")
    received = receipt.received
    times = [received if time is None else time for time in said]
    earliest = 0 if receipt.replay else max(0, received - FARTHEST)
    latest = received + FARTHEST
    first, last = extremes(times) or (-1, -1)
    if first < earliest or last > latest:
        for time in times:
            if not earliest <= time <= latest:
                check_time("time", time, received)
    return times


def _effective_times(
    said: Sequence[int | None], client_times: list[int], receipt: Receipt
) -> list[int]:
    """Return when each event happened by our clock: never later than its receipt."""
    skew, received = receipt.skew, receipt.received
    last = extremes(client_times)
    if receipt.replay or (skew == 0 and last is not None and last[1] <= received):
        return client_times
    return [received if time is None or time + skew > received else time + skew for time in said]


def check_time(name: str, time: int, now: int) -> None:
    """Raise InputError if ``time`` is before 1970 or more than ten years from ``now`` (µs)."""
    if time < 0:
        raise InputError(f"{name}: {time} is before 1970.", "Times are µs since 1970 in UTC.")
    if abs(time - now) > FARTHEST:
        raise InputError(
            f"{name}: {time} is more than ten years from now.", "Times are µs since 1970 in UTC."
        )


def subject_of(shape: Shape, values: Sequence[object]) -> str:
    """Return whom an event is about, as ``entity=value``; empty if nobody."""
    return subjects_of([values], shape.subject, shape.about)[0]


def content_digest(spec: EventSpec, time: int | None, values: Sequence[object]) -> bytes:
    """Return 16 bytes of BLAKE2b over what a client said: the event, its time and its fields.

    ``feilun.records.contents`` says of what exactly.
    """
    return contents(spec.name, [values], [time], grown=_has_grown(spec)).digests[0]


def _has_grown(spec: EventSpec) -> bool:
    """Whether its last fields may have come later than the event."""
    return bool(spec.fields) and spec.fields[-1].optional
