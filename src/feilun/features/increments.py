"""What a run of events adds to families of tiles, and what to store for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feilun.aggregation import Family, Plan, Tiles, expire, fold_all, merge
from feilun.aggregation.codec import decode, encode
from feilun.aggregation.folding import places
from feilun.aggregation.frames import Column, EventFrame
from feilun.errors import CorruptData
from feilun.features.bodies import absent
from feilun.features.earlier import fields_of
from feilun.ports.online_store import StoreSnapshot

KEYS_AT_ONCE = 20_000
"""Keys whose tiles are merged at a time: what a commit needs of memory does not grow with them."""

Parts = tuple[Tiles | None, ...]
"""Tiles for each plan of a family; None where no event came."""


@dataclass(frozen=True, slots=True)
class Increment:
    """New tiles by family, and the newest effective time (µs) in them."""

    families: Mapping[Family, Parts]
    time: int


def fold_frames(
    families: Sequence[Family], frames: Mapping[str, EventFrame], counted: frozenset[str]
) -> Increment:
    """Fold the events of ``frames``, by event name.

    Parameters
    ----------
    families : sequence of Family
        What to fold.
    frames : mapping
        The events.
    counted : frozenset of str
        The events whose times count for the newest.
    """
    times = [int(frames[name].time.max()) for name in counted & frames.keys() if len(frames[name])]
    parts = {family: _fold_family(family, frames) for family in families}
    return Increment(parts, max(times, default=0))


def add(a: Increment, b: Increment) -> Increment:
    """Return what both add."""
    families = {
        family: tuple(
            _sum(plan, x, y)
            for plan, x, y in zip(family.plans, parts, b.families[family], strict=True)
        )
        for family, parts in a.families.items()
    }
    return Increment(families, max(a.time, b.time))


def puts(
    snapshot: StoreSnapshot,
    increment: Increment,
    now: int,
    note: Callable[[Family, bytes], None],
) -> Iterator[tuple[bytes, bytes]]:
    """Merge new tiles with what the store has of the same keys; yield what to store.

    ``now`` is the newest effective time: tiles that no read from then on needs are dropped. Only
    so many keys are in memory at once, however many there are; ``snapshot`` must stay open. Keys
    whose blob is damaged are told to ``note``, and left out.
    """
    return _merged(increment, now, snapshot.get_many, note)


def blobs(increment: Increment, now: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield what to store of keys of which nothing is stored, as `puts` does."""
    return _merged(increment, now, lambda names: [None] * len(names), lambda _family, _key: None)


def damaged(family: Family, keys: Sequence[bytes], blobs: Sequence[bytes]) -> list[bytes]:
    """Return the keys whose blobs are damaged."""
    _, bad = _decoded(family, keys, blobs)
    return [keys[at] for at in sorted(bad)]


def _merged(
    increment: Increment,
    now: int,
    get_many: Callable[[Sequence[bytes]], Sequence[bytes | None]],
    note: Callable[[Family, bytes], None],
) -> Iterator[tuple[bytes, bytes]]:
    for family, parts in increment.families.items():
        every = _all_keys(parts)
        spread = [None if new is None else _spread(new, every) for new in parts]
        for lo in range(0, len(every), KEYS_AT_ONCE):
            keys = every[lo : lo + KEYS_AT_ONCE]
            names = [family.id + key for key in keys]
            stored, bad = _decoded(family, keys, get_many(names))
            whole = [
                _expired(plan, old if new is None else merge(plan, old, new.of(keys, lo)), now)
                for plan, old, new in zip(family.plans, stored, spread, strict=True)
            ]
            made = zip(names, encode(family, whole), strict=True)
            if not bad:
                yield from made
                continue
            for at, (key, pair) in enumerate(zip(keys, made, strict=True)):
                if at in bad:
                    note(family, key)
                else:
                    yield pair


def _decoded(
    family: Family, keys: Sequence[bytes], blobs: Sequence[bytes | None]
) -> tuple[list[Tiles], set[int]]:
    """Return the tiles of blobs, and the places of those that are damaged, which have none."""
    try:
        return decode(family, keys, blobs), set()
    except CorruptData:
        bad = {at for at, blob in enumerate(blobs) if _is_damaged(family, blob)}
    left = [None if at in bad else blob for at, blob in enumerate(blobs)]
    return decode(family, keys, left), bad


def _is_damaged(family: Family, blob: bytes | None) -> bool:
    try:
        decode(family, [b""], [blob])
    except CorruptData:
        return True
    return False


def _fold_family(family: Family, frames: Mapping[str, EventFrame]) -> Parts:
    found: list[Tiles | None] = [None] * len(family.plans)
    for event in {plan.event for plan in family.plans} & frames.keys():
        if len(frames[event]):
            chosen = [at for at, plan in enumerate(family.plans) if plan.event == event]
            plans = [family.plans[at] for at in chosen]
            folded = fold_all(plans, _with_what_is_gone(frames[event], plans))
            for at, tiles in zip(chosen, folded, strict=True):
                found[at] = tiles
    return tuple(found)


def _with_what_is_gone(frame: EventFrame, plans: Sequence[Plan]) -> EventFrame:
    """Return events with a column for each field that a plan needs and the event has no more.

    Nobody reads what is folded of it, but it may stand in the same rows as what is read, and must
    not take events from them: so it is there, and says nothing. A key that is gone is nobody's.
    """
    wanted = {
        field.name: field
        for plan in plans
        for fold in plan.folds
        for field in fields_of(fold)
        if field.name not in frame.columns
    }
    if not wanted:
        return frame
    columns = {name: absent(field, len(frame)) for name, field in wanted.items()}
    keys = {entity.name for entity in plans[0].keys}
    for name in wanted.keys() - keys:
        columns[name] = Column(columns[name].values, np.ones(len(frame), np.bool_))
    return EventFrame(frame.time, frame.tie, frame.known, {**frame.columns, **columns})


def _sum(plan: Plan, a: Tiles | None, b: Tiles | None) -> Tiles | None:
    if a is None or b is None:
        return b if a is None else a
    return merge(plan, a, b)


def _all_keys(parts: Parts) -> Sequence[bytes]:
    lists: list[Sequence[bytes]] = []
    for tiles in parts:
        if tiles is not None and not any(tiles.keys is known for known in lists):
            lists.append(tiles.keys)
    return lists[0] if len(lists) == 1 else sorted(set().union(*lists))


def _spread(tiles: Tiles, keys: Sequence[bytes]) -> Tiles:
    """Return the same tiles among more keys."""
    if tiles.keys is keys:
        return tiles
    counts = np.zeros(len(keys) + 1, np.int64)
    counts[1:][places(keys, tiles)] = np.diff(tiles.offsets)
    return Tiles(keys, np.cumsum(counts), tiles.rows)


def _expired(plan: Plan, tiles: Tiles, now: int) -> Tiles:
    if plan.retention is None:
        return tiles
    return expire(plan, tiles, now - plan.retention - plan.hop)


def nothing(families: Sequence[Family]) -> Increment:
    """Return what no event adds."""
    return Increment({family: (None,) * len(family.plans) for family in families}, 0)
