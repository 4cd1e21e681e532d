"""Bad events for people: what was refused as a record, decoded, and in what it differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from feilun.clock import to_iso
from feilun.errors import CorruptData
from feilun.ports.event_log import BadEvent, EventLog
from feilun.records.erasure import record_in
from feilun.records.identity import first_offset
from feilun.records.record import Record
from feilun.records.schema import decode_schema


def decoded(bad: BadEvent, schemas: Mapping[str, bytes]) -> dict[str, Any] | None:
    """Return a bad event that is a record as its sender knows it; None if it is none.

    Parameters
    ----------
    bad : BadEvent
        What was kept.
    schemas : mapping
        What the log knows of its schemas.
    """
    record = record_in(bad.raw)
    return None if record is None else _said(record, schemas)


def difference(bad: BadEvent, log: EventLog) -> dict[str, tuple[Any, Any]]:
    """Return in what a conflict differs from what came before: ``fields.city`` to then and now.

    Empty if the event is no conflict, or if one of the two cannot be read any more.
    """
    offset, schemas = first_offset(bad.reason), log.schemas()
    now = decoded(bad, schemas)
    if offset is None or now is None:
        return {}
    try:
        found = log.read(offset, 1)
    except CorruptData:
        return {}
    then = _said(found[0][1], schemas) if found and found[0][0] == offset else None
    if then is None:
        return {}
    old, new = _flat(then), _flat(now)
    names = dict.fromkeys([*old, *new])
    return {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}


def _flat(said: dict[str, Any]) -> dict[str, Any]:
    fields = {f"fields.{name}": value for name, value in said["fields"].items()}
    return {name: said[name] for name in ("event", "time")} | fields


def _said(record: Record, schemas: Mapping[str, bytes]) -> dict[str, Any] | None:
    meaning = schemas.get(record.schema)
    if meaning is None:
        return None
    shape = decode_schema(meaning)
    try:
        values = msgspec.msgpack.decode(record.body, type=list[Any])
    except msgspec.MsgspecError:
        return None
    fields = dict(zip([field.name for field in shape.fields], values, strict=False))
    return {
        "event": shape.name,
        "id": record.id,
        "time": to_iso(record.client_time),
        "fields": fields,
    }
