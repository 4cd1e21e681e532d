"""The engine: what the log has and the store has not is folded, and committed with its offset.

One transaction holds the new tiles and the new mark, so that a crash at any point, or a second
engine, can neither lose nor repeat a record.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from feilun.aggregation import Tiles, decode, encode, expire, fold, merge, zero
from feilun.definitions.specs import FoldSpec, Project
from feilun.errors import ConfigError, CorruptData
from feilun.features.built import KEY, Built, decode_built, encode_built
from feilun.features.frames import FrameDecoder
from feilun.features.set_aside import SetAside
from feilun.ports.event_log import EventLog
from feilun.ports.online_store import Mark, OnlineStore
from feilun.records.record import Record

BATCH = 10_000
"""Records folded in one transaction unless the caller says otherwise."""
BACKFILL_BATCH = 100_000
"""Records read at once to build the tiles of a new fold."""

logger = logging.getLogger(__name__)

Records = Sequence[tuple[int, Record]]


@dataclass(slots=True)
class _Folded:
    """Tiles by the place of their fold, and the newest effective time (µs) in them."""

    tiles: dict[int, Tiles]
    time: int


class Engine:
    """Folds the log of one project into its online store.

    Parameters
    ----------
    project : Project
        The definitions: every fold that some feature reads is kept.
    log : EventLog
        What to fold.
    store : OnlineStore
        Where tiles go; nobody else writes to it.
    tries : int
        How often a record that cannot be folded is tried before it is set aside.
    poison_limit : int
        More records than this in a row that cannot be folded are not poison: something is wrong
        with the program or the machine, and `run_once` raises what the last one raised.
    """

    def __init__(
        self,
        project: Project,
        log: EventLog,
        store: OnlineStore,
        *,
        tries: int = 3,
        poison_limit: int = 100,
    ) -> None:
        self._folds = project.folds
        self._events = {spec.event for spec in self._folds}
        self._decoder = FrameDecoder(project)
        self._log = log
        self._store = store
        self._set_aside = SetAside(log)
        self._tries = tries
        self._poison_limit = poison_limit
        self._poison_in_a_row = 0
        self._folded = 0

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

        A few records commit soon, many at once commit cheaply. Folds that are new in the project
        are first built from the log up to where the store stands.

        Raises
        ------
        Fenced
            If another engine folds into the store; nothing of this batch was stored.
        StoreFull
            If there is no space; nothing of this batch was stored.
        CorruptData
            If the store stands beyond the end of the log, or stored bytes fail their check.
        """
        mark = self._prepare()
        records = self._log.read(mark.offset, limit)
        if not records:
            self._check_not_ahead(mark)
            return 0
        folded = self._fold(records, range(len(self._folds)))
        reached = Mark(records[-1][0] + 1, max(mark.time, folded.time))
        self._store.commit(self._merged(folded, reached), mark.offset, reached)
        self._folded += len(records)
        return len(records)

    def rebuild(self, limit: int = BACKFILL_BATCH) -> int:
        """Forget every tile and fold the whole log again; return how many records it took.

        What was set aside stays so. Reads meanwhile see the log as far as it is folded.
        """
        self._store.clear()
        taken = 0
        while count := self.run_once(limit):
            taken += count
        return taken

    def _prepare(self) -> Mark:
        """Make the store's folds those of the project; return where it stands."""
        with self._store.snapshot() as snapshot:
            mark = snapshot.mark()
            built = decode_built(snapshot.get_many([KEY])[0])
        wanted = built.becoming(self._folds, mark.offset)
        if wanted == built:
            return mark
        new = [place for place, spec in enumerate(self._folds) if not built.has(spec)]
        return self._backfill(new, wanted, mark)

    def _backfill(self, places: Sequence[int], wanted: Built, mark: Mark) -> Mark:
        """Build the tiles of new folds from the log below the mark, and commit them together.

        Stored tiles of the same folds, which may lack events or have expired too soon, are not
        added to but replaced: everything that was folded into them is in the log.
        """
        total = _Folded({place: zero(self._folds[place]) for place in places}, mark.time)
        start = 0
        while places and start < mark.offset:
            records = self._log.read(start, min(BACKFILL_BATCH, mark.offset - start))
            records = [pair for pair in records if pair[0] < mark.offset]
            if not records:
                break
            total = self._sum(total, self._fold(records, places))
            start = records[-1][0] + 1
        if start:
            logger.info("built the tiles of %d new folds from %d records", len(places), start)
        reached = Mark(mark.offset, total.time)
        puts = [
            (spec.fingerprint + key, blob)
            for spec, tiles in ((self._folds[place], part) for place, part in total.tiles.items())
            for key, blob in encode(spec, self._expired(spec, tiles, reached))
        ]
        self._store.commit([*puts, (KEY, encode_built(wanted))], mark.offset, reached)
        return reached

    def _merged(self, folded: _Folded, mark: Mark) -> list[tuple[bytes, bytes]]:
        """Merge new tiles with what the store has of the same keys; return what to store."""
        keys = {
            place: [self._folds[place].fingerprint + key for key in tiles.keys]
            for place, tiles in folded.tiles.items()
        }
        with self._store.snapshot() as snapshot:
            # Should another engine commit before this moment, ours is refused.
            stored = {place: snapshot.get_many(asked) for place, asked in keys.items()}
        puts: list[tuple[bytes, bytes]] = []
        for place, new in folded.tiles.items():
            spec = self._folds[place]
            tiles = merge(spec, decode(spec, new.keys, stored[place]), new)
            for key, blob in encode(spec, self._expired(spec, tiles, mark)):
                puts.append((spec.fingerprint + key, blob))
        return puts

    @staticmethod
    def _expired(spec: FoldSpec, tiles: Tiles, mark: Mark) -> Tiles:
        if spec.retention is None:
            return tiles
        return expire(spec, tiles, mark.time - spec.retention - spec.hop)

    def _fold(self, records: Records, places: Sequence[int]) -> _Folded:
        """Fold records, except those that were or must be set aside."""
        aside = self._set_aside.offsets()
        if aside:
            records = [pair for pair in records if pair[0] not in aside]
        return self._bisect(records, places)

    def _bisect(self, records: Records, places: Sequence[int]) -> _Folded:
        """Fold records; halve them where that fails, until what fails is one record."""
        try:
            folded = self._fold_all(records, places)
        except (MemoryError, ConfigError):
            raise  # the machine's fault, not a record's
        except Exception as error:
            if len(records) > 1:
                middle = len(records) // 2
                first = self._bisect(records[:middle], places)
                return self._sum(first, self._bisect(records[middle:], places))
            return self._try_again(records, places, error)
        self._poison_in_a_row = 0
        return folded

    def _try_again(self, records: Records, places: Sequence[int], error: Exception) -> _Folded:
        """Try the one record that failed again; set it aside when it fails for good."""
        for _ in range(self._tries - 1):
            try:
                return self._fold_all(records, places)
            except Exception as again:
                error = again
        self._poison_in_a_row += 1
        if self._poison_in_a_row > self._poison_limit:
            raise error
        offset, record = records[0]
        reason = f"it cannot be folded: {type(error).__name__}: {error}"
        logger.error("set aside the record at offset %d: %s", offset, reason)
        self._set_aside.add(offset, record, reason)
        return self._fold_all([], places)

    def _fold_all(self, records: Records, places: Sequence[int]) -> _Folded:
        decoded = self._decoder.decode(records)
        tiles: dict[int, Tiles] = {}
        for place in places:
            spec = self._folds[place]
            frame = decoded.frames.get(spec.event)
            if frame is not None and len(frame):
                tiles[place] = fold(spec, frame)
        for unusable in decoded.unusable:
            self._set_aside.add(*unusable)
        times = [
            int(frame.time.max())
            for name, frame in decoded.frames.items()
            if name in self._events and len(frame)
        ]
        return _Folded(tiles, max(times, default=0))

    def _sum(self, a: _Folded, b: _Folded) -> _Folded:
        tiles = dict(a.tiles)
        for place, more in b.tiles.items():
            known = tiles.get(place)
            tiles[place] = more if known is None else merge(self._folds[place], known, more)
        return _Folded(tiles, max(a.time, b.time))

    def _check_not_ahead(self, mark: Mark) -> None:
        end = self._log.end()
        if mark.offset > end:
            raise CorruptData(
                f"The store has folded up to offset {mark.offset}, but the log ends at {end}: "
                "they do not belong together.",
                "Put the log's folder back, or rebuild the tiles from the log that is there.",
            )
