"""The collector: what a client sends becomes records, or is kept with the reason why not.

A body is one event, an array of events, or a batch with the time at which it was sent::

    {"event": "order_line", "id": "A-1", "time": "2024-05-01T09:30:00Z", "fields": {"user_id": 7}}
    {"sent_at": 1714555800000000, "source": "web", "events": [...]}

``time`` and ``sent_at`` are ISO 8601 with a zone, or int µs UTC. An event without ``id`` gets one,
and then cannot be recognised when it is sent again; an event without ``time`` happened at its
receipt, and is recognised only on the day of its receipt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, NamedTuple

import msgspec

from feilun.clock import Clock
from feilun.definitions.specs import Project
from feilun.errors import InputError, TooLarge
from feilun.events.committer import Committer
from feilun.events.declaring import declare
from feilun.events.items import Receipt, check_time, rows_of
from feilun.events.shapes import Batch, Item, Shapes, id_of, split, to_microseconds
from feilun.ports.event_log import Accepted, Appended, EventLog
from feilun.records.compiled import loops
from feilun.records.rows import Rows

BODY_LIMIT = 1 << 20
"""The most bytes of a body."""
ITEM_LIMIT = 1_000
"""The most events of a body."""
KEPT_LIMIT = 64 << 10
"""How many bytes of something unusable are kept."""
RESERVED_SOURCES = frozenset({"gateway"})
"""Sources that only the system itself writes under."""

PAGES = "page"
"""The source of everything that web pages send, whatever they say: ids are unique within a source,
and a page must not be able to take those of others."""

_SOURCE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_REASONS = {
    "erased": "It is from before its subject was erased: it is not stored.",
    "late": "It came after its day was closed: it is kept, and counts nowhere.",
    "conflict": "This id came before with other content; the first counts.",
}


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
    records: Rows
    bad: dict[int, Unusable] = field(default_factory=dict)

    def to_keep(self) -> list[tuple[str, bytes]]:
        """Return reason and bytes of what cannot be a record."""
        return [(event.reason, event.raw) for event in self.bad.values()]

    def answers(self, appended: Sequence[Appended]) -> list[ItemAnswer]:
        """Return an answer per event, in the order of the body."""
        answers = [
            ItemAnswer(answer.status, id, answer.offset)
            if answer.status == "accepted"
            else _answer(id, answer)
            for id, answer in zip(self.records.id, appended, strict=True)
        ]
        for place, event in self.bad.items():  # in the order of their places
            answers.insert(place, ItemAnswer("bad", event.id, None, event.reason))
        return answers

    def encoded(self, appended: Sequence[Appended]) -> bytes:
        """Return the `answers` as JSON, an array."""
        if loops is not None and isinstance(appended, Accepted) and not self.bad:
            found: bytes | None = loops.accepted(self.records.id, appended.offsets)
            if found is not None:
                return found
        return msgspec.json.encode(self.answers(appended))


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
            Who sends, as ``source`` or ``team/source``; a batch may name another source.
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
    ) -> bytes:
        """Do as ``accept`` does, sharing durable commits with concurrent requests.

        The answers are JSON, an array.
        """
        received = self._clock.now() if received is None else received
        try:
            intake = self.read(source, raw, received)
        except TooLarge:
            raise
        except InputError as error:
            await committer.keep_bad(source, received, [_kept(error, raw)])
            raise
        await committer.keep_bad(intake.source, received, intake.to_keep())
        return intake.encoded(await committer.commit(intake.records))

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
                receipt = self._begin(source, whole, received)
                return Intake(receipt.source, self._rows(whole.events, receipt))
            except TooLarge:
                raise
            except InputError:
                pass  # found again below, where each event is read alone and keeps its own bytes
        return self._read_one_by_one(source, raw, received)

    def _read_one_by_one(self, source: str, raw: bytes, received: int) -> Intake:
        parts = split(raw)
        receipt = self._begin(source, parts, received)
        good: list[Rows] = []
        bad: dict[int, Unusable] = {}
        for place, part in enumerate(parts.events):
            try:
                item = self._shapes.decode_one(part)
                good.append(self._rows([item], receipt))
            except InputError as error:
                bad[place] = Unusable(*_kept(error, bytes(part)), id_of(part))
        return Intake(receipt.source, Rows.joined(good), bad)

    def _begin(self, source: str, batch: Batch, received: int) -> Receipt:
        """Check what goes for the whole body, and return it."""
        if len(batch.events) > ITEM_LIMIT:
            raise TooLarge(
                f"The body has {len(batch.events)} events; at most {ITEM_LIMIT} are taken.",
                "Send them in several.",
            )
        team, slash, named = source.rpartition("/")
        if batch.source is not None and source != PAGES:
            named = batch.source
        if not _SOURCE.fullmatch(named) or named in RESERVED_SOURCES:
            raise InputError(
                f"source: {named[:80]!r} cannot be used.",
                "It has 1 to 64 letters, digits, dots, hyphens or underscores, and is not "
                f"{' or '.join(sorted(RESERVED_SOURCES))}.",
            )
        named = team + slash + named  # a team's ids are its own, whatever ids others use
        if batch.sent_at is None or self._replays:
            return Receipt(named, received, 0, self._replays)
        sent_at = to_microseconds(batch.sent_at)
        check_time("sent_at", sent_at, received)
        return Receipt(named, received, received - sent_at, self._replays)

    def _rows(self, items: Sequence[Item], receipt: Receipt) -> Rows:
        """Return the records of decoded events. One that cannot be one raises InputError."""
        if len(set(map(type, items))) == 1:
            return rows_of(self._shapes.of(type(items[0])), items, receipt)
        places: dict[type, list[int]] = {}
        for place, item in enumerate(items):
            places.setdefault(type(item), []).append(place)
        alike = [
            rows_of(self._shapes.of(kind), [items[place] for place in some], receipt)
            for kind, some in places.items()
        ]
        order = list(chain.from_iterable(places.values()))
        return Rows.joined(alike).chosen(sorted(range(len(order)), key=order.__getitem__))


def _answer(id: str, appended: Appended) -> ItemAnswer:
    status, offset = appended.status, appended.offset
    return ItemAnswer(status, id, None if offset < 0 else offset, _REASONS.get(status))


def _kept(error: InputError, raw: bytes) -> tuple[str, bytes]:
    if len(raw) > KEPT_LIMIT:
        return f"{error} (The first {KEPT_LIMIT} of {len(raw)} bytes are kept.)", raw[:KEPT_LIMIT]
    return str(error), raw
