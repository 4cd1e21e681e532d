"""When a turn is due: a function of the log alone.

The log is walked record by record, so the offset at which a turn falls due does not depend on how
often, or in what portions, anybody looked.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from feilun.definitions.specs import FlywheelSpec, ModelSpec, TriggerSpec
from feilun.ports.event_log import EventLog
from feilun.records.codec import decode_prediction
from feilun.records.record import IMPORTED, LATE, PREDICTION_SCHEMA, Record

BY_HAND = "by hand"
"""The trigger of a turn that somebody asked for."""

BATCH = 2_000
"""Records read at once."""


class Due(NamedTuple):
    """A turn falls due: it may look at the records below ``cut``."""

    cut: int
    trigger: str


class Watch:
    """Counts what happens to one model, from one turn to the next.

    An outcome is counted when it ripens: at the first record received at or after the end of the
    window of the request it belongs to. One answered request is one outcome, however many items it
    scored. Late and imported events are not news and are not counted.

    Parameters
    ----------
    flywheel : FlywheelSpec
        The triggers.
    model : ModelSpec
        The model that they are about.
    examined : int
        Nothing falls due below this offset: it was decided before.
    cuts : iterable of int
        The cuts of the turns that there are; counting begins anew at each.
    """

    def __init__(
        self, flywheel: FlywheelSpec, model: ModelSpec, examined: int = 0, cuts: Iterable[int] = ()
    ) -> None:
        self._triggers = flywheel.triggers
        self._model = model
        self._examined = examined
        self._cuts = frozenset(cuts)
        self._counts: Counter[str | None] = Counter()
        self._open: list[int] = []
        self._now = 0
        self.position = 0

    @property
    def cuts(self) -> frozenset[int]:
        """The cuts that it knows of."""
        return self._cuts

    def next_due(self, log: EventLog) -> Due | None:
        """Walk on to the next moment at which a turn is due, or to the log's end.

        ``position`` is then the offset up to which everything is decided but for that turn.
        """
        while batch := log.read(self.position, BATCH):
            due = self._walk(batch)
            if due is not None:
                return due
        return None

    def add_cut(self, cut: int) -> None:
        """Begin counting anew at ``cut``, which must not be behind ``position``."""
        self._cuts |= {cut}
        if cut == self.position:
            self._counts.clear()

    def _walk(self, batch: Sequence[tuple[int, Record]]) -> Due | None:
        for offset, record in batch:
            self._count(record)
            self.position = offset + 1
            if self.position in self._cuts:
                self._counts.clear()
                continue
            trigger = self._met()
            if trigger is not None and self.position > self._examined:
                self.add_cut(self.position)
                return Due(self.position, trigger)
        return None

    def _count(self, record: Record) -> None:
        # What ripens by this record was asked before it.
        self._now = max(self._now, record.received)
        while self._open and self._open[0] <= self._now:
            heapq.heappop(self._open)
            self._counts[None] += 1
        if record.schema == PREDICTION_SCHEMA:
            prediction = decode_prediction(record.body)
            mine = prediction.model == self._model.name and prediction.personalised
            if mine and prediction.items:
                heapq.heappush(self._open, prediction.as_of + self._model.label.within)
        elif not record.flags & (LATE | IMPORTED):
            self._counts[record.schema.partition(".")[0]] += 1

    def _met(self) -> str | None:
        for trigger in self._triggers:
            if self._counts[trigger.event] >= trigger.count:
                return describe(trigger)
        return None


def describe(trigger: TriggerSpec) -> str:
    """Name a trigger in a turn's record.

    Examples
    --------
    >>> describe(TriggerSpec(1000, None))
    '1000 outcomes'
    >>> describe(TriggerSpec(50, "click"))
    '50 click events'
    """
    return f"{trigger.count} {'outcomes' if trigger.event is None else f'{trigger.event} events'}"
