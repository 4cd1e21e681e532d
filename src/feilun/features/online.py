"""The online read: features of now, for one request, from one moment of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain, islice
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np

from feilun.aggregation import Column, Family, decode, read
from feilun.aggregation.reading import earliest
from feilun.definitions.specs import FeatureSpec, Project
from feilun.errors import CorruptData, InputError
from feilun.features.built import KEY, Built, decode_built, mended
from feilun.features.read_plan import ReadGroup, ReadPlan, Scalar, make_plan, stand_in
from feilun.ports.online_store import SnapshotSource, StoreSnapshot

_MAX_PLANS = 1_024
_TELLS_TIME = frozenset({"since_last", "decayed"})
"""Kinds whose value changes with the moment of the read, though no event comes or goes."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """Values of one key, by address, and the addresses at which there is none.

    A missing value is the feature's default, or None; a list is empty.
    """

    values: dict[str, Any]
    missing: list[str]


class _Known(NamedTuple):
    """What a reader worked out of the store as it was at some version."""

    version: int
    raw: bytes | None
    built: Built
    plans: dict[int | tuple[int, ...], ReadPlan]


class OnlineReader:
    """Reads features from the online store.

    Make one for each worker process; it may be used from several threads.

    Parameters
    ----------
    project : Project
        Whose features are read.
    store : SnapshotSource
        What the engine writes.
    """

    def __init__(self, project: Project, store: SnapshotSource) -> None:
        self.project = project
        self._store = store
        self._known = _Known(-1, None, Built(), {})
        self._whole: dict[int, tuple[FeatureSpec, Any, bytes | None, Column]] = {}

    def snapshot(self) -> Snapshot:
        """Open one moment of the store; hold it for a request, not longer."""
        return Snapshot(self, self._store.snapshot())

    def plan(self, features: Sequence[FeatureSpec], moment: StoreSnapshot) -> ReadPlan:
        """Return what these features need of the store as it is at a moment.

        Lists of the same objects are planned once, and a tuple is known again by itself.
        """
        known = self._known
        if known.version != (version := moment.version()):
            raw = moment.get(KEY)
            if raw == known.raw:
                known = known._replace(version=version)
            else:
                known = _Known(version, raw, decode_built(raw, self.project), {})
            self._known = known
        plans = known.plans
        plan = plans.get(id(features))
        if plan is not None and plan.features is features:
            return plan
        # Hashing a spec walks all of it. A plan keeps its features, so their ids stay theirs.
        key = tuple(map(id, features))
        plan = plans.get(key)
        if plan is None:
            if len(plans) + 2 > _MAX_PLANS:
                plans.clear()
            plan = plans[key] = make_plan(tuple(features), known.built)
            if plan.features is features:
                plans[id(features)] = plan
        return plan

    def whole(self, family: Family, feature: FeatureSpec, blob: bytes | None, as_of: int) -> Column:
        """Return a feature of no entity: requests share it while its tiles and window last."""
        since = as_of if feature.fold.kind in _TELLS_TIME else earliest(feature, as_of)
        # Not by address: two versions of a model may mean two features by one.
        known = self._whole.get(id(feature))
        if known is not None and known[0] is feature and known[1:3] == (since, blob):
            return known[3]
        place, _ = family.place_of(feature.fold)
        tiles = decode(family, [b""], [blob])[place]
        (column,) = read(family.plans[place], tiles, [feature], as_of)
        self._whole[id(feature)] = (feature, since, blob, column)
        return column


class Snapshot:
    """One moment: everything that is read from it belongs together.

    Attributes
    ----------
    mark : Mark
        How far the log was folded.
    damaged : list of str
        The addresses of features that were missing in what was read until now because a blob of
        theirs is damaged; nobody knows their values.
    """

    __slots__ = ("_moment", "_opened", "_reader", "damaged", "mark")

    def __init__(self, reader: OnlineReader, moment: AbstractContextManager[StoreSnapshot]) -> None:
        self._reader = reader
        self._opened = moment
        self.damaged: list[str] = []

    def __enter__(self) -> Self:
        self._moment = self._opened.__enter__()
        self.mark = self._moment.mark()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.__exit__(kind, error, trace)

    def mended(self) -> int:
        """Return how many damaged blobs of tiles were made anew, for metrics."""
        return mended(self._moment)

    def read(
        self,
        features: Sequence[FeatureSpec],
        keys: Mapping[str, Scalar],
        item: str | None,
        items: Sequence[Scalar],
        as_of: int,
    ) -> dict[str, Column]:
        """Return the value of each feature, by address.

        All keys are fetched in one pass, and tiles that several features share are decoded once.

        Parameters
        ----------
        features : sequence of FeatureSpec
            What to read.
        keys : mapping
            Entity name to the request's value.
        item : str or None
            The entity that differs between rows; its values are ``items``.
        items : sequence
            One a row. Features that do not depend on the item have a column of length 1.
        as_of : int
            Now, µs UTC: later than every folded event (``mark.time``).

        Returns
        -------
        dict of str to Column
            Where a value is missing ``present`` is False. A feature whose tiles the engine has
            not built yet is missing in every row (see `unbuilt`), one whose tiles are damaged in
            the rows of those (see `damaged`).

        Raises
        ------
        InputError
            If a key is not given or has the wrong type, or ``as_of`` is not after ``mark.time``.
        """
        if as_of <= self.mark.time:
            raise self._too_early(as_of)
        plan = self._reader.plan(features, self._moment)
        asked = [group.store_keys(keys, item, items) for group in plan.groups]
        blobs = iter(self._moment.get_many(list(chain.from_iterable(asked))))
        columns: dict[str, Column] = {}
        for group, names in zip(plan.groups, asked, strict=True):
            found = [*islice(blobs, len(names))]
            try:
                columns.update(self._columns(group, names, found, as_of))
            except CorruptData:
                columns.update(self._spared(group, names, found, as_of))
        for feature in plan.unbuilt:
            each = item in [entity.name for entity in feature.fold.keys]
            columns[feature.address] = missing_column(feature, len(items) if each else 1)
        return {feature.address: columns[feature.address] for feature in plan.features}

    def _columns(
        self, group: ReadGroup, names: Sequence[bytes], blobs: Sequence[bytes | None], as_of: int
    ) -> Mapping[str, Column]:
        family, features = group.family, group.features
        if not family.keys:
            whole = self._reader.whole
            return {f.address: whole(family, f, blobs[0], as_of) for f in features}
        if len(blobs) == 1:
            row: dict[str, Any] = {}
            group.reader.one(blobs[0], as_of, row)
            return {f.address: column_of(f, row[f.address]) for f in features}
        return group.reader.many(names, blobs, as_of)

    def _spared(
        self, group: ReadGroup, names: Sequence[bytes], blobs: Sequence[bytes | None], as_of: int
    ) -> dict[str, Column]:
        """Return what `_columns` does, with nothing where a blob is damaged."""
        self._note_damage(group)
        bad = np.array([_is_damaged(group, blob, as_of) for blob in blobs])
        left = [None if damaged else blob for damaged, blob in zip(bad, blobs, strict=True)]
        columns = {}
        read = self._columns(group, names, left, as_of)
        for feature in group.features:
            column = read[feature.address]
            values, nothing = column.values.copy(), missing_column(feature, len(blobs)).values
            for row in np.flatnonzero(bad):
                values[row] = nothing[row]
            columns[feature.address] = Column(values, column.present & ~bad)
        return columns

    def _note_damage(self, group: ReadGroup) -> None:
        new = [f.address for f in group.features if f.address not in self.damaged]
        self.damaged += new

    def read_row(
        self, features: Sequence[FeatureSpec], keys: Mapping[str, Scalar], as_of: int
    ) -> Row:
        """Return the values of features for one key of each entity, as plain Python values.

        The same as `read`, several times faster for a few features.

        Parameters
        ----------
        features : sequence of FeatureSpec
            What to read.
        keys : mapping
            Entity name to value.
        as_of : int
            Now, µs UTC: later than every folded event (``mark.time``).

        Raises
        ------
        InputError
            If a key is not given or has the wrong type, or ``as_of`` is not after ``mark.time``.
        """
        if as_of <= self.mark.time:
            raise self._too_early(as_of)
        if not features:
            return Row({}, [])
        plan = self._reader.plan(features, self._moment)
        moment, values = self._moment, plan.nothing.copy()
        incomplete = bool(plan.unbuilt)
        for group in plan.groups:
            blob = moment.get(group.store_key(keys))
            try:
                if group.reader.one(blob, as_of, values):
                    incomplete = True
            except CorruptData:
                self._note_damage(group)
                values.update(dict.fromkeys(feature.address for feature in group.features))
                incomplete = True
        if not incomplete:
            return Row(values, [])
        missing = [address for address, value in values.items() if value is None]
        for address in missing:
            values[address] = plan.defaults[address]
        return Row(values, missing)

    def unbuilt(self, features: Sequence[FeatureSpec]) -> list[str]:
        """Return the addresses of features that are missing because the engine is not ready.

        Their folds are new, or reach further back than what was kept, and are being built from
        the log.
        """
        if not features:
            return []
        return [feature.address for feature in self._reader.plan(features, self._moment).unbuilt]

    def current(self, features: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Return the features to read for people: what is being built, as it was defined before.

        Where that has another type, or there was nothing, the feature itself: it is missing.
        """
        return self._reader.plan(features, self._moment).current

    def _too_early(self, as_of: int) -> InputError:
        return InputError(
            f"as_of={as_of} is not after the newest folded event ({self.mark.time}).",
            "Tiles answer reads of now only.",
        )


def _is_damaged(group: ReadGroup, blob: bytes | None, as_of: int) -> bool:
    try:
        group.reader.one(blob, as_of, {})
    except CorruptData:
        return True
    return False


_TYPES: Mapping[str, tuple[Any, Any]] = {
    "int": (np.int64, 0),
    "float": (np.float64, np.nan),
    "bool": (np.bool_, False),
    "str": (object, None),
    "vector": (np.float64, np.nan),
}


def column_of(feature: FeatureSpec, value: Any) -> Column:
    """Return a column of one value; None is a missing one."""
    if value is None:
        return missing_column(feature, 1)
    if feature.is_list:
        values = np.empty(1, object)
        values[0] = value
    else:
        values = np.array([value], _TYPES[feature.dtype][0])
    return Column(values, np.ones(1, np.bool_))


def missing_column(feature: FeatureSpec, size: int) -> Column:
    """Return a column in which nothing is present."""
    values: Any
    if feature.is_list:
        values = np.empty(size, object)
        values[:] = [stand_in(feature) for _ in range(size)]
    else:
        kind, filler = _TYPES[feature.dtype]
        shape = (size, feature.fold.dim) if feature.dtype == "vector" else size
        filler = filler if feature.default is None else feature.default
        values = np.full(shape, filler, kind)
    return Column(values, np.zeros(size, np.bool_))
