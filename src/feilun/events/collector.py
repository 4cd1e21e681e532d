"""The collector: what a client sends becomes records, or is kept with the reason why not.

A body is one event, an array of events, or a batch with the time at which it was sent::

    {"event": "order_line", "id": "A-1", "time": "2024-05-01T09:30:00Z", "fields": {"user_id": 7}}
    {"sent_at": 1714555800000000, "source": "web", "events": [...]}

``time`` and ``sent_at`` are ISO 8601 with a zone, or int µs UTC. An event without ``id`` gets one,
and then cannot be recognised when it is sent again; an event without ``time`` happened at its
receipt, and is recognised only on the day of its receipt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from feilun.clock import DAY, Clock
from feilun.definitions.specs import EventSpec, Project
from feilun.errors import InputError, TooLarge
from feilun.events.committer import Committer
from feilun.events.declaring import declare
from feilun.events.ids import uuid7
from feilun.events.shapes import Batch, Item, Shape, Shapes, id_of, split, to_microseconds
from feilun.ports.event_log import Appended, EventLog
from feilun.records.record import Record

BODY_LIMIT = 1 << 20
"""The most bytes of a body."""
ITEM_LIMIT = 1_000
"""The most events of a body."""
KEPT_LIMIT = 64 << 10
"""How many bytes of something unusable are kept."""
FARTHEST = 3_660 * DAY
"""How far (ten years, in µs) a client's clock may be from ours."""
RESERVED_SOURCES = frozenset({"gateway"})
"""Sources that only the system itself writes under."""

_SOURCE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_REASONS = {
    "erased": "It is from before its subject was erased: it is not stored.",
    "late": "It came after its day was closed: it is kept, and counts nowhere.",
    "conflict": "This id came before with other content; the first counts.",
}
_encode = msgspec.msgpack.Encoder().encode


class ItemAnswer(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one event of a body. ``offset`` is absent where nothing was stored."""

    status: Literal["accepted", "duplicate", "late", "conflict", "erased", "bad"]
    id: str | None = None
    offset: int | None = None
    reason: str | None = None


class Unusable(NamedTuple):
    """An event that cannot be a record: why, the bytes to keep, and its id if it has one."""

    reason: str
    raw: bytes
    id: str | None = None


@dataclass(slots=True)
class Intake:
    """A body, read: its records in order, and by its place in the body what cannot be one."""

    source: str
    records: list[Record] = field(default_factory=list)
    bad: dict[int, Unusable] = field(default_factory=dict)

    def to_keep(self) -> list[tuple[str, bytes]]:
        """Return reason and bytes of what cannot be a record."""
        return [(event.reason, event.raw) for event in self.bad.values()]

    def answers(self, appended: Sequence[Appended]) -> list[ItemAnswer]:
        """Return an answer per event, in the order of the body."""
        answers = [
            ItemAnswer(status, record.id, None if offset < 0 else offset, _REASONS.get(status))
            for record, (status, offset) in zip(self.records, appended, strict=True)
        ]
        for place, event in self.bad.items():  # in the order of their places
            answers.insert(place, ItemAnswer("bad", event.id, None, event.reason))
        return answers


class Collector:
    """Takes in the events of one project, and declares their schemas to the log before the first.

    Parameters
    ----------
    project : Project
        Its events are accepted, each as its definition says.
    log : EventLog
        Where records and unusable bytes go.
    clock : Clock
        Says when a body was received.
    mode : {"wall", "request"}
        ``request`` is for replays: an event is received at its own time, so that nothing is late
        for the machine's clock and nothing is corrected.

    Raises
    ------
    DefinitionError
        If an event has changed so that its old records and new ones cannot live together.
    StoreFull
        If the log has no space for schemas that it does not know yet.
    """

    def __init__(
        self,
        project: Project,
        log: EventLog,
        clock: Clock,
        mode: Literal["wall", "request"] = "wall",
    ) -> None:
        declare(log, project.events.values())
        self._shapes = Shapes(project)
        self._log = log
        self._clock = clock
        self._replays = mode == "request"

    def accept(self, source: str, raw: bytes, received: int | None = None) -> list[ItemAnswer]:
        """Take in one body, durably, and answer for each of its events.

        Idempotent for events with an id and a time: a second call answers ``duplicate``.

        Parameters
        ----------
        source : str
            Who sends; a batch may name another.
        raw : bytes
            The body, JSON.
        received : int
            When it came, µs UTC; the clock's time if not given.

        Raises
        ------
        InputError
            If the body as a whole cannot be used; it is kept as a bad event.
        TooLarge
            If it exceeds a cap; nothing is kept.
        StoreFull
            If the log has no space; nothing is acknowledged.
        """
        received = self._clock.now() if received is None else received
        try:
            intake = self.read(source, raw, received)
        except TooLarge:
            raise
        except InputError as error:
            self._log.keep_bad_many(source, received, [_kept(error, raw)])
            raise
        self._log.keep_bad_many(intake.source, received, intake.to_keep())
        return intake.answers(self._log.append(intake.records))

    async def collect(
        self, committer: Committer, source: str, raw: bytes, received: int | None = None
    ) -> list[ItemAnswer]:
        """Do as ``accept`` does, sharing durable commits with concurrent requests."""
        received = self._clock.now() if received is None else received
        try:
            intake = self.read(source, raw, received)
        except TooLarge:
            raise
        except InputError as error:
            await committer.keep_bad(source, received, [_kept(error, raw)])
            raise
        await committer.keep_bad(intake.source, received, intake.to_keep())
        return intake.answers(await committer.commit(intake.records))

    def read(self, source: str, raw: bytes, received: int) -> Intake:
        """Read a body without storing anything. Raises as ``accept`` does."""
        if len(raw) > BODY_LIMIT:
            raise TooLarge(
                f"The body has {len(raw)} bytes; at most {BODY_LIMIT} are taken.",
                "Send it in several.",
            )
        whole = self._shapes.decode(raw)
        if whole is not None:
            try:
                intake, skew = self._begin(source, whole, received)
                intake.records = self._records(whole.events, intake.source, received, skew)
            except TooLarge:
                raise
            except InputError:
                pass  # found again below, where each event is read alone and keeps its own bytes
            else:
                return intake
        return self._read_one_by_one(source, raw, received)

    def _read_one_by_one(self, source: str, raw: bytes, received: int) -> Intake:
        parts = split(raw)
        intake, skew = self._begin(source, parts, received)
        for place, part in enumerate(parts.events):
            try:
                item = self._shapes.decode_one(part)
                intake.records += self._records([item], intake.source, received, skew)
            except InputError as error:
                intake.bad[place] = Unusable(*_kept(error, bytes(part)), id_of(part))
        return intake

    def _begin(self, source: str, batch: Batch, received: int) -> tuple[Intake, int]:
        """Check what goes for the whole body; return also how far its clock is behind ours."""
        if len(batch.events) > ITEM_LIMIT:
            raise TooLarge(
                f"The body has {len(batch.events)} events; at most {ITEM_LIMIT} are taken.",
                "Send them in several.",
            )
        named = source if batch.source is None else batch.source
        if not _SOURCE.fullmatch(named) or named in RESERVED_SOURCES:
            raise InputError(
                f"source: {named[:80]!r} cannot be used.",
                "It has 1 to 64 letters, digits, dots, hyphens or underscores, and is not "
                f"{' or '.join(sorted(RESERVED_SOURCES))}.",
            )
        if batch.sent_at is None or self._replays:
            return Intake(named), 0
        sent_at = to_microseconds(batch.sent_at)
        check_time("sent_at", sent_at, received)
        return Intake(named), received - sent_at

    def _records(
        self, items: Sequence[Item], source: str, received: int, skew: int
    ) -> list[Record]:
        """Return the records of decoded events. One that cannot be one raises InputError."""
        shape_of, replays = self._shapes.of, self._replays
        earliest = 0 if replays else max(0, received - FARTHEST)
        latest = received + FARTHEST
        records = []
        for item in items:
            shape = shape_of(item)
            values = shape.values(item)
            given = None if item.time is None else to_microseconds(item.time)
            if replays and given is None:
                raise InputError("time: is missing; a replay takes its clock from the events.")
            client_time = received if given is None else given
            if not earliest <= client_time <= latest:
                check_time("time", client_time, received)
            at = client_time if replays else received
            time = at if given is None else given + skew
            body = _encode(values)
            records.append(
                Record(
                    shape.schema,
                    source,
                    item.id or uuid7(client_time),
                    time if time < at else at,
                    at,
                    client_time,
                    at,
                    subject_of(shape, values),
                    content_digest(shape.spec, given, values, body),
                    body,
                )
            )
        return records


def content_digest(
    spec: EventSpec, time: int | None, values: Sequence[object], body: bytes = b""
) -> bytes:
    """Return 16 bytes of BLAKE2b over what a client said: the event, its time and its fields.

    It is the digest of the MessagePack array of these three. Absent fields at the end do not
    count, so that an event sent again after its definition has grown by optional fields is still
    the same. ``body`` may be given if all the values are encoded already.
    """
    if not body or (values and values[-1] is None):
        said = len(values)
        while said and values[said - 1] is None:
            said -= 1
        body = _encode(values[:said])
    state = _begun(spec.name).copy()
    state.update(_encode(time) + body)
    return state.digest()


@lru_cache(maxsize=1024)
def _begun(event: str) -> hashlib.blake2b:
    # Setting a hash up costs twice what hashing an event does; its copy costs next to nothing.
    return hashlib.blake2b(b"\x93" + _encode(event), digest_size=16)


def subject_of(shape: Shape, values: Sequence[object]) -> str:
    """Return whom an event is about, as ``entity=value``; empty if nobody."""
    if shape.subject is None or (value := values[shape.subject]) is None:
        return ""
    return f"{shape.about}{value}"


def check_time(name: str, time: int, now: int) -> None:
    """Raise InputError if ``time`` is before 1970 or more than ten years from ``now`` (µs)."""
    if time < 0:
        raise InputError(f"{name}: {time} is before 1970.", "Times are µs since 1970 in UTC.")
    if abs(time - now) > FARTHEST:
        raise InputError(
            f"{name}: {time} is more than ten years from now.", "Times are µs since 1970 in UTC."
        )


def _kept(error: InputError, raw: bytes) -> tuple[str, bytes]:
    if len(raw) > KEPT_LIMIT:
        return f"{error} (The first {KEPT_LIMIT} of {len(raw)} bytes are kept.)", raw[:KEPT_LIMIT]
    return str(error), raw
