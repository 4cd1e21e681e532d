"""The audit of what is served: all the time, a little at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from feilun.errors import FeilunError
from feilun.models.skew import STEP, Audit, Meanings, Sample, predictions_from
from feilun.ports.event_log import EventLog
from feilun.ports.skew_store import ModelSkew, SkewState, SkewStore

SAMPLE = 60
"""The most requests of a model that one round computes again."""
INTERVAL = 60.0
"""Seconds from the beginning of a round to that of the next."""
SHARE = 0.02
"""The part of a processor's time that the audit may take, beside a turn that wants it all."""

_log = logging.getLogger(__name__)


class Auditor:
    """Goes through the log in rounds; every prediction is considered in one of them, once.

    Parameters
    ----------
    log : EventLog
        Where predictions and events are.
    meanings : Meanings
        What the columns of logged vectors are.
    store : SkewStore
        Where the findings go.
    now : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        log: EventLog,
        meanings: Meanings,
        store: SkewStore,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._meanings = meanings
        self._store = store
        self._now = now
        self._round: _Round | None = None
        self._next_round = self._next_step = now()

    def step(self) -> bool:
        """Do a little if it is time to, and return whether a round has ended with it.

        Called over and over by the flywheel's process; seldom takes more than a tenth of a second.

        Raises
        ------
        Unavailable, StoreFull, CorruptData, Fenced
            If the log or the store cannot be used. The round begins again after a while.
        """
        started = self._now()
        if started < (self._next_round if self._round is None else self._next_step):
            return False
        try:
            ended = self._work(started)
        except FeilunError:
            self._round = None
            self._next_round = started + INTERVAL
            raise
        self._next_step = self._now() + (self._now() - started) / SHARE
        self._next_round = max(self._next_round, self._next_step)
        return ended

    def _work(self, now: float) -> bool:
        if self._round is None:
            self._next_round = now + INTERVAL
            state, end = self._store.load(), self._log.end()
            if state.offset == end:
                return False
            # A log that was put back to an earlier state: what comes from here on is audited.
            start = state.offset if state.offset < end else end
            self._round = _Round(self._log, self._meanings, state, start, end)
        found = self._round.step()
        if found is None:
            return False
        self._keep(self._round, found)
        self._round = None
        return True

    def _keep(self, ended: _Round, found: Mapping[str, ModelSkew]) -> None:
        models = dict(ended.state.models)
        for name, skew in found.items():
            models[name] = models.get(name, ModelSkew()).plus(skew)
            for address, feature in skew.features.items():
                if feature.mismatched:
                    _log.warning(
                        "Skew in %s: %s was served otherwise than training computes it, in %d of "
                        "%d rows.",
                        name,
                        address,
                        feature.mismatched,
                        feature.audited,
                    )
        self._store.save(SkewState(ended.end, models), ended.state.offset)


class _Round:
    """One way through the new part of the log: choose predictions, read their events, compare."""

    def __init__(
        self, log: EventLog, meanings: Meanings, state: SkewState, start: int, end: int
    ) -> None:
        self.state = state
        self.end = end
        self._log = log
        self._meanings = meanings
        self._position = start
        self._samples = {model: Sample(SAMPLE) for model in meanings.project.models}
        self._audit: Audit | None = None

    def step(self) -> Mapping[str, ModelSkew] | None:
        """Do the next part; return what came out when it was the last one."""
        if self._position < self.end:
            found, self._position = predictions_from(
                self._log, self._position, min(STEP, self.end - self._position)
            )
            for model, sample in self._samples.items():
                sample.add(p for p in found if p.model == model)
        elif self._audit is None:
            chosen = [p for sample in self._samples.values() for p in sample.predictions()]
            self._audit = Audit(self._log, self._meanings, chosen)
        elif not self._audit.step():
            return self._audit.result()
        return None
