"""The engine: what the log has and the store has not is folded, and committed with its offset.

One transaction holds the new tiles and the new mark, so that a crash at any point, or a second
engine, can neither lose nor repeat a record. Tiles that are new in the project are built beside
the others, a part of the log at a time, and are read when they have caught up. So are blobs that
were found damaged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from feilun.aggregation import Family
from feilun.definitions.specs import FoldSpec, Project, longest
from feilun.errors import ConfigError, CorruptData
from feilun.features import increments
from feilun.features.built import KEY, Built, ListDamaged, decode_built, encode_built
from feilun.features.frames import Decoded, FrameDecoder
from feilun.features.increments import Increment
from feilun.features.mending import Mending
from feilun.features.set_aside import SetAside
from feilun.ports.event_log import EventLog
from feilun.ports.online_store import Mark, OnlineStore
from feilun.records.batch import RecordBatch
from feilun.records.record import Record
from feilun.records.schema import refuse_incompatible

BATCH = 200_000
"""The most records folded in one transaction: what piles up is folded at once, and cheaply."""
BUILD_BATCH = 20_000
"""Records folded into new families beside each batch, so that reads stay fresh meanwhile."""
CHECK_BATCH = 200
"""Blobs that are checked at a time when nothing else is to do: about a millisecond."""
_DISCARD = 10_000
"""Blobs of dropped families that are deleted at a time."""

logger = logging.getLogger(__name__)

Records = Sequence[tuple[int, Record]]


class Engine:
    """Folds the log of one project into its online store.

    Parameters
    ----------
    project : Project
        The definitions: every fold that some feature reads is folded.
    log : EventLog
        What to fold.
    store : OnlineStore
        Where tiles go; nobody else writes to it.
    tries : int
        How often a record that cannot be folded is tried before it is set aside.
    poison_limit : int
        More records than this in a row that cannot be folded are not poison: something is wrong
        with the program or the machine, and `run_once` raises what the last one raised.
    pinned : callable
        Asked each time for what is folded beside the project's own: what models in production were
        trained on, though the definitions may have changed since. It returns the same object while
        nothing has changed.

    Raises
    ------
    DefinitionError
        If an event has changed so that its old records cannot be read as what it is now.
    """

    def __init__(
        self,
        project: Project,
        log: EventLog,
        store: OnlineStore,
        *,
        tries: int = 3,
        poison_limit: int = 100,
        pinned: Callable[[], tuple[FoldSpec, ...]] = tuple,
    ) -> None:
        self._pinned = pinned
        self._pins: tuple[FoldSpec, ...] = ()
        self._folds = project.folds
        self._features = tuple(f for view in project.views.values() for f in view.features)
        self._events = frozenset(spec.event for spec in self._folds)
        self._project = project
        self._log = log
        self._history = log.schemas()
        refuse_incompatible(project.events.values(), self._history, log.counts())
        self._decoder = FrameDecoder(project, self._history)
        self._store = store
        self._set_aside = SetAside(log)
        self._tries = tries
        self._poison_limit = poison_limit
        self._poison_in_a_row = 0
        self._folded = 0
        self._built: tuple[bytes | None, Built] = (None, Built())
        self._settled: Built | None = None
        self._mending = Mending()
        self._checked = b""
        self._damage = ""

    @property
    def folded(self) -> int:
        """How many records this engine has taken from the log, for metrics."""
        return self._folded

    def lag(self) -> int:
        """Return how many records the log has that the store has not."""
        with self._store.snapshot() as snapshot:
            return self._log.end() - snapshot.mark().offset

    def run_once(self, limit: int = BATCH) -> int:
        """Fold up to ``limit`` records in one transaction; return how many were taken.

        A few records commit soon, many at once commit cheaply. Where families are under
        construction a part of the log is folded into them too, and counts as taken. 0 says that
        nothing is left to do.

        Raises
        ------
        Fenced
            If another engine folds into the store; nothing of this batch was stored.
        StoreFull
            If there is no space; nothing of this batch was stored.
        CorruptData
            If stored bytes fail their check; nothing of this batch was stored.
        ConfigError
            If the store stands beyond the end of the log.
        """
        self._heed_pins()
        try:
            return self._advance(limit)
        except ListDamaged as error:
            self._check_log()
            logger.error("all tiles are made anew from the log: %s", error.message)
            self._store.clear()
            return self._advance(limit)

    def _advance(self, limit: int) -> int:
        with self._store.snapshot() as snapshot:
            mark = snapshot.mark()
            before = self._decoded(snapshot.get(KEY))
            built = self._arranged(before, mark)
            batches = self._log.read_batches(mark.offset, limit)
            families = [h.family for h in built.holdings if h.offset is None]
            live = self._fold(batches, families)
            end = batches[-1].end if batches else mark.offset
            built, taken, old = self._build(built, end, min(limit, BUILD_BATCH))
            taken += self._mend(families, end, min(limit, BUILD_BATCH))
            reached = Mark(end, max(mark.time, live.time, old.time))
            taken += end - mark.offset
            if end >= built.until or not batches:
                built = replace(built, until=0)  # caught up: from this commit on it is read
            mended = bool(self._mending.families) and self._mending.offset == end
            if not (taken or mended or built != before or before.dropped):
                self._check_not_ahead(mark)
                return 0
            built = replace(built, dropped=self._discard(built.dropped, before.dropped))
            puts = chain(
                increments.puts(snapshot, live, reached.time, self._mending.note),
                increments.puts(snapshot, old, reached.time, self._mending.note),
                self._mending.puts(snapshot, reached.time) if mended else [],
                [(KEY, encode_built(built))] if built != before else [],
            )
            # Should another engine commit before this moment, ours is refused.
            self._store.commit(puts, mark.offset, reached)
        if mended:
            self._mending.finish()
        self._folded += taken
        # What was dropped just now goes the next time, and then what waits for that can begin.
        return taken or len(before.dropped) or len(built.dropped)

    def rebuild(self, limit: int = BATCH) -> int:
        """Forget every tile and fold the whole log again; return how many records it took.

        What was set aside stays so. Until the store has caught up with the log as it ends now,
        every feature is missing, as one that is being built; also after a crash in the middle.

        Raises
        ------
        CorruptData
            If some of the log cannot be read: all of it is checked first. No tile was changed.
        """
        self._check_log()
        self._store.clear()
        taken = 0
        while count := self.run_once(limit):
            taken += count
        return taken

    def check(self, limit: int = CHECK_BATCH) -> int:
        """Check the next blobs of the store, round and round; return how many are found damaged.

        Called when nothing else is to do, so that damage does not wait for an event of its key.
        What was found is made anew by `run_once`.

        Raises
        ------
        CorruptData
            If the store's list of its tiles is damaged.
        """
        with self._store.snapshot() as snapshot:
            built = self._decoded(snapshot.get(KEY))
            pairs = snapshot.scan(self._checked, limit)
        self._checked = pairs[-1][0] if len(pairs) == limit else b""
        return self._mending.check(pairs, [holding.family for holding in built.holdings])

    def _heed_pins(self) -> None:
        """Take up what is to be folded by now."""
        pins = self._pinned()
        if pins is self._pins:
            return
        self._pins = pins
        self._folds = longest((*self._project.folds, *pins))
        self._events = frozenset(spec.event for spec in self._folds)
        self._settled = None

    def _check_log(self) -> None:
        """Refuse to forget tiles that the log could not make again."""
        if damaged := self._log.damaged():
            names = ", ".join(f"{start} to {end - 1}" for start, end in damaged)
            raise CorruptData(
                f"The log's records at offsets {names} are damaged, and the features that hold "
                "them could not be made again. The tiles stay as they are.",
                "Put a backup of the log's folder back, then rebuild.",
            )

    def _decoded(self, raw: bytes | None) -> Built:
        known, built = self._built
        if raw is None or raw != known:
            built = decode_built(raw, self._project)
            self._built = (raw, built)
        return built

    def _arranged(self, built: Built, mark: Mark) -> Built:
        """Return what the store is to hold; comparing all folds each time would cost too much."""
        if built is self._settled:
            return built
        arranged = built.without_what_is_gone(self._project).arranged(
            self._folds, mark.offset, self._log.end(), self._features
        )
        if arranged == built:
            self._settled = built
            return built
        return arranged

    def _build(self, built: Built, end: int, limit: int) -> tuple[Built, int, Increment]:
        """Fold the next part of the log below ``end`` into families under construction.

        Those that are furthest behind come first. Return what holds when it is stored, how many
        records it took, and what it adds. Where the log is damaged they stay as they are, missing;
        the others go on.
        """
        behind = sorted({h.offset for h in built.holdings if h.offset is not None})
        if not behind:
            return built, 0, increments.nothing([])
        start, stop = behind[0], min([*behind[1:2], end])
        batches = self._past(start, min(stop, start + limit))
        if batches is None:
            return built, 0, increments.nothing([])
        at = batches[-1].end if batches else stop
        families = [h.family for h in built.holdings if h.offset == start]
        added = self._fold(batches, families)
        if at == end:
            logger.info("built %d new families of tiles up to offset %d", len(families), end)
        holdings = tuple(
            replace(holding, offset=None if at == end else at)
            if holding.offset == start
            else holding
            for holding in built.holdings
        )
        return replace(built, holdings=holdings), at - start, added

    def _mend(self, families: Sequence[Family], end: int, limit: int) -> int:
        """Fold the next part of the log below ``end`` for keys whose blobs are damaged.

        Return how many records it took. Where the log is damaged too the blobs stay as they are.
        """
        mending = self._mending
        if not mending.begin(families):
            return 0
        start = mending.offset
        if batches := self._past(start, min(end, start + limit)):
            mending.add(self._fold(batches, mending.families), batches[-1].end)
        return mending.offset - start

    def _past(self, start: int, stop: int) -> list[RecordBatch] | None:
        """Return records from ``start`` on and below ``stop``; None where they are damaged."""
        if start >= stop:
            return []
        try:
            batches = self._log.read_batches(start, stop - start)
        except CorruptData as error:
            if self._damage != (damage := str(error)):
                self._damage = damage
                logger.error("cannot build tiles from the log: %s", damage)
            return None
        return [batch.between(start, stop) for batch in batches if batch.base < stop]

    def _discard(self, dropped: Sequence[bytes], known: Sequence[bytes]) -> tuple[bytes, ...]:
        """Delete some blobs of families that readers know to be dropped; return what is left."""
        return tuple(
            family
            for family in dropped
            if family not in known or self._store.discard(family, _DISCARD) == _DISCARD
        )

    def _fold(self, batches: Sequence[RecordBatch], families: Sequence[Family]) -> Increment:
        """Fold records, except those that were or must be set aside."""
        aside = self._set_aside.offsets()
        if aside:
            batches = [batch.without(aside) for batch in batches]
        try:
            folded = self._fold_decoded(self._decode(batches), families)
        except (MemoryError, ConfigError):
            raise  # the machine's fault, not a record's
        except Exception:
            records = [pair for batch in batches for pair in batch.records()]
            return self._bisect(records, families)
        if batches:
            self._poison_in_a_row = 0
        return folded

    def _decode(self, batches: Sequence[RecordBatch]) -> Decoded:
        """Decode records; look again for what schemas mean where one is unknown."""
        decoded = self._decoder.decode_batches(batches)
        if decoded.unknown and (history := self._log.schemas()) != self._history:
            self._history = history
            self._decoder = FrameDecoder(self._project, history)
            decoded = self._decoder.decode_batches(batches)
        return decoded

    def _bisect(self, records: Records, families: Sequence[Family]) -> Increment:
        """Fold records; halve them where that fails, until what fails is one record."""
        try:
            folded = self._fold_all(records, families)
        except (MemoryError, ConfigError):
            raise  # the machine's fault, not a record's
        except Exception as error:
            if len(records) > 1:
                middle = len(records) // 2
                first = self._bisect(records[:middle], families)
                return increments.add(first, self._bisect(records[middle:], families))
            return self._try_again(records, families, error)
        self._poison_in_a_row = 0
        return folded

    def _try_again(
        self, records: Records, families: Sequence[Family], error: Exception
    ) -> Increment:
        """Try the one record that failed again; set it aside when it fails for good."""
        for _ in range(self._tries - 1):
            try:
                return self._fold_all(records, families)
            except Exception as again:
                error = again
        self._poison_in_a_row += 1
        if self._poison_in_a_row > self._poison_limit:
            raise error
        offset, record = records[0]
        reason = f"it cannot be folded: {type(error).__name__}: {error}"
        logger.error("set aside the record at offset %d: %s", offset, reason)
        self._set_aside.add(offset, record, reason)
        return increments.nothing(families)

    def _fold_all(self, records: Records, families: Sequence[Family]) -> Increment:
        return self._fold_decoded(self._decoder.decode(records), families)

    def _fold_decoded(self, decoded: Decoded, families: Sequence[Family]) -> Increment:
        folded = increments.fold_frames(families, decoded.frames, self._events)
        for unusable in decoded.unusable:
            self._set_aside.add(*unusable)
        return folded

    def _check_not_ahead(self, mark: Mark) -> None:
        end = self._log.end()
        if mark.offset > end:
            raise ConfigError(
                f"The store has folded up to offset {mark.offset}, but the log ends at {end}: "
                "they do not belong together.",
                "Put the log's folder back, or rebuild the tiles from the log that is there.",
            )
