"""The online read: features of now, for one request, from one moment of the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from feilun.aggregation import Column, decode, encode_key, read
from feilun.aggregation.reading import earliest
from feilun.definitions.specs import EntitySpec, FeatureSpec, FoldSpec, Project
from feilun.errors import InputError
from feilun.features.built import KEY, Built, decode_built
from feilun.ports.online_store import Mark, OnlineStore, StoreSnapshot

_MAX_PLANS = 1_024
_TELLS_TIME = frozenset({"since_last", "decayed"})
"""Kinds whose value changes with the moment of the read, though no event comes or goes."""

Entities = tuple[EntitySpec, ...]
Scalar = int | str


@dataclass(frozen=True, slots=True)
class _Group:
    """Features that read the same tiles."""

    fold: FoldSpec
    features: list[FeatureSpec]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a list of features needs, worked out once."""

    features: tuple[FeatureSpec, ...]
    entities: dict[str, EntitySpec]
    groups: dict[Entities, list[_Group]]


class OnlineReader:
    """Reads features from the online store.

    Make one for each worker process; it may be used from several threads.

    Parameters
    ----------
    project : Project
        Whose features are read.
    store : OnlineStore
        What the engine writes.
    """

    def __init__(self, project: Project, store: OnlineStore) -> None:
        self.project = project
        self._store = store
        self._plans: dict[tuple[int, ...], _Plan] = {}
        self._built: tuple[bytes | None, Built] = (None, Built())
        self._whole: dict[str, tuple[Any, bytes | None, Column]] = {}

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open one moment of the store; hold it for a request, not longer."""
        with self._store.snapshot() as moment:
            yield Snapshot(self, moment)

    def plan(self, features: Sequence[FeatureSpec]) -> _Plan:
        """Return what these features need. Lists of the same objects are planned once."""
        # Hashing a spec walks all of it. A plan keeps its features, so their ids stay theirs.
        key = tuple(map(id, features))
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            plan = self._plans[key] = _make_plan(tuple(features))
        return plan

    def built(self, raw: bytes | None) -> Built:
        """Return which tiles are whole; the same bytes are decoded once."""
        known, built = self._built
        if raw != known:
            built = decode_built(raw)
            self._built = (raw, built)
        return built

    def whole(self, feature: FeatureSpec, blob: bytes | None, as_of: int) -> Column:
        """Return a feature of no entity: requests share it while its tiles and window last."""
        since = as_of if feature.fold.kind in _TELLS_TIME else earliest(feature, as_of)
        known = self._whole.get(feature.address)
        if known is not None and known[0] == since and known[1] == blob:
            return known[2]
        column = read(feature, decode(feature.fold, [b""], [blob]), None, as_of)
        self._whole[feature.address] = (since, blob, column)
        return column


class Snapshot:
    """One moment: everything that is read from it belongs together."""

    def __init__(self, reader: OnlineReader, moment: StoreSnapshot) -> None:
        self._reader = reader
        self._moment = moment
        self.mark: Mark = moment.mark()

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
            not built yet is missing in every row (see `unbuilt`).

        Raises
        ------
        InputError
            If a key is not given or has the wrong type, or ``as_of`` is not after ``mark.time``.
        """
        if as_of <= self.mark.time:
            raise InputError(
                f"as_of={as_of} is not after the newest folded event ({self.mark.time}).",
                "Tiles answer reads of now only.",
            )
        plan = self._reader.plan(features)
        encoded = _encode_keys(plan, keys, item, items)
        asked = [KEY]
        for entities, groups in plan.groups.items():
            for group in groups:
                fingerprint = group.fold.fingerprint
                asked += [fingerprint + key for key in encoded[entities]]
        blobs = self._moment.get_many(asked)
        built = self._reader.built(blobs[0])
        columns: dict[str, Column] = {}
        at = 1
        for entities, groups in plan.groups.items():
            rows = encoded[entities]
            for group in groups:
                found = blobs[at : at + len(rows)]
                at += len(rows)
                tiles = decode(group.fold, rows, found) if entities else None
                for feature in group.features:
                    if tiles is None:
                        column = self._reader.whole(feature, found[0], as_of)
                    else:
                        column = read(feature, tiles, None, as_of)
                    if not built.answers(feature):
                        column = _missing(feature, column)
                    columns[feature.address] = column
        return {feature.address: columns[feature.address] for feature in plan.features}

    def unbuilt(self, features: Sequence[FeatureSpec]) -> list[str]:
        """Return the addresses of features that are missing because the engine is not ready.

        Their folds are new, or reach further back than what was kept, and are being built from
        the log.
        """
        built = self._reader.built(self._moment.get_many([KEY])[0])
        return [feature.address for feature in features if not built.answers(feature)]


def _make_plan(features: tuple[FeatureSpec, ...]) -> _Plan:
    groups: dict[Entities, dict[bytes, _Group]] = {}
    for feature in features:
        fold = feature.fold
        of_entities = groups.setdefault(fold.keys, {})
        of_entities.setdefault(fold.fingerprint, _Group(fold, [])).features.append(feature)
    return _Plan(
        features=features,
        entities={entity.name: entity for entities in groups for entity in entities},
        groups={entities: list(found.values()) for entities, found in groups.items()},
    )


def _encode_keys(
    plan: _Plan, keys: Mapping[str, Scalar], item: str | None, items: Sequence[Scalar]
) -> dict[Entities, list[bytes]]:
    """Return the keys of each kind of entity; every value is encoded once."""
    parts: dict[str, bytes] = {}
    of_items: list[bytes] = []
    for name, entity in plan.entities.items():
        if name != item and name not in keys:
            raise InputError(f"The key {name} is missing.", f"Give a value for {name}.")
        try:
            if name == item:
                of_items = [_encode(name, entity.dtype, value) for value in items]
            else:
                parts[name] = _encode(name, entity.dtype, keys[name])
        except TypeError as error:
            raise InputError(f"{name} must be of type {entity.dtype}: {error}.") from error
    encoded: dict[Entities, list[bytes]] = {}
    for entities in plan.groups:
        names = [entity.name for entity in entities]
        if item in names:
            place = names.index(item)
            before = b"".join([parts[name] for name in names[:place]])
            after = b"".join([parts[name] for name in names[place + 1 :]])
            encoded[entities] = [before + part + after for part in of_items]
        else:
            encoded[entities] = [b"".join([parts[name] for name in names])]
    return encoded


@lru_cache(maxsize=1 << 16, typed=True)
def _encode(name: str, dtype: Literal["int", "str"], value: Scalar) -> bytes:
    """Encode one value. The same items are asked for again and again."""
    return encode_key((EntitySpec(name, dtype),), (value,))


def _missing(feature: FeatureSpec, column: Column) -> Column:
    """Return a column of the same length and type in which nothing is present."""
    size = len(column.values)
    values: Any
    if feature.is_list:
        values = np.empty(size, object)
        values[:] = [list(feature.default or ()) for _ in range(size)]
    elif feature.default is None:
        filler = {"f": np.nan, "O": None}.get(column.values.dtype.kind, 0)
        values = np.full(size, filler, column.values.dtype)
    else:
        values = np.full(size, feature.default, column.values.dtype)
    return Column(values, np.zeros(size, np.bool_))
