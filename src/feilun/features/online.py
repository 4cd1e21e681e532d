"""The online read: features of now, for one request, from one moment of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from feilun.aggregation import Column, Family, encode_value, encode_values, read
from feilun.aggregation.codec import StoredTiles, empty_blob
from feilun.aggregation.reading import earliest, read_stored
from feilun.aggregation.single import KeyReader
from feilun.definitions.specs import EntitySpec, FeatureSpec, Project
from feilun.errors import InputError
from feilun.features.built import KEY, Built, decode_built
from feilun.ports.online_store import Mark, OnlineStore, StoreSnapshot

_MAX_PLANS = 1_024
_TELLS_TIME = frozenset({"since_last", "decayed"})
"""Kinds whose value changes with the moment of the read, though no event comes or goes."""

Scalar = int | str


class Row(NamedTuple):
    """Values of one key, by address, and the addresses at which there is none.

    A missing value is the feature's default, or None.
    """

    values: dict[str, Any]
    missing: list[str]


@dataclass
class _Group:
    """Features that are read from one family, by the place of their plan."""

    family: Family
    plans: dict[int, list[FeatureSpec]] = field(default_factory=dict)
    features: list[FeatureSpec] = field(default_factory=list)

    @cached_property
    def key_reader(self) -> KeyReader:
        """What reads them for one key."""
        return KeyReader(self.family, self.features)

    def read_one(self, blob: bytes | None, as_of: int) -> Iterable[tuple[FeatureSpec, Any]]:
        """Return the features with their values for the one key of ``blob``."""
        stored = empty_blob(self.family) if blob is None else blob
        return zip(self.features, self.key_reader.read(stored, as_of), strict=True)

    def store_key(self, parts: Mapping[str, bytes]) -> bytes:
        """Return where the tiles lie, given the value of each entity in bytes."""
        return self.family.id + b"".join([parts[entity.name] for entity in self.family.keys])


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a list of features needs, worked out once for the families that there are."""

    features: tuple[FeatureSpec, ...]
    defaults: dict[str, Any]
    entities: dict[str, EntitySpec]
    groups: list[_Group]
    unbuilt: list[FeatureSpec]


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
        self._built: tuple[bytes | None, Built, dict[tuple[int, ...], _Plan]] = (None, Built(), {})
        self._whole: dict[str, tuple[Any, bytes | None, Column]] = {}

    def snapshot(self) -> Snapshot:
        """Open one moment of the store; hold it for a request, not longer."""
        return Snapshot(self, self._store.snapshot())

    def plan(self, features: Sequence[FeatureSpec], raw: bytes | None) -> _Plan:
        """Return what these features need of a store that says ``raw`` of itself.

        Lists of the same objects are planned once.
        """
        known, built, plans = self._built
        if raw != known:
            built, plans = decode_built(raw, self.project.folds), {}
            self._built = (raw, built, plans)
        # Hashing a spec walks all of it. A plan keeps its features, so their ids stay theirs.
        key = tuple(map(id, features))
        plan = plans.get(key)
        if plan is None:
            if len(plans) >= _MAX_PLANS:
                plans.clear()
            plan = plans[key] = _make_plan(tuple(features), built)
        return plan

    def whole(self, family: Family, feature: FeatureSpec, blob: bytes | None, as_of: int) -> Column:
        """Return a feature of no entity: requests share it while its tiles and window last."""
        since = as_of if feature.fold.kind in _TELLS_TIME else earliest(feature, as_of)
        known = self._whole.get(feature.address)
        if known is not None and known[0] == since and known[1] == blob:
            return known[2]
        place, _ = family.place_of(feature.fold)
        stored = StoredTiles(family, [b""], [blob]).tiles(place)
        (column,) = read(family.plans[place], stored, [feature], as_of)
        self._whole[feature.address] = (since, blob, column)
        return column


class Snapshot:
    """One moment: everything that is read from it belongs together."""

    def __init__(self, reader: OnlineReader, moment: AbstractContextManager[StoreSnapshot]) -> None:
        self._reader = reader
        self._opened = moment
        self._said: tuple[bytes | None] | None = None

    def __enter__(self) -> Self:
        self._moment = self._opened.__enter__()
        self.mark: Mark = self._moment.mark()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.__exit__(kind, error, trace)

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
        self._check(as_of)
        plan = self._plan(features)
        asked = _store_keys(plan, keys, item, items)
        blobs = iter(self._moment.get_many([key for of_group in asked for key in of_group]))
        columns: dict[str, Column] = {}
        for group, names in zip(plan.groups, asked, strict=True):
            family = group.family
            found = [*islice(blobs, len(names))]
            if not family.keys:
                for feature in group.features:
                    columns[feature.address] = self._reader.whole(family, feature, found[0], as_of)
                continue
            if len(found) == 1:
                row = group.read_one(found[0], as_of)
                columns.update({f.address: _only(f, value) for f, value in row})
                continue
            stored = StoredTiles(family, names, found)
            for place, of_plan in group.plans.items():
                values = read_stored(stored, place, of_plan, as_of)
                columns.update(zip((f.address for f in of_plan), values, strict=True))
        for feature in plan.unbuilt:
            each = item in [entity.name for entity in feature.fold.keys]
            columns[feature.address] = _missing(feature, len(items) if each else 1)
        return {feature.address: columns[feature.address] for feature in plan.features}

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
        self._check(as_of)
        plan = self._plan(features)
        parts = _encoded(plan, keys)
        blobs = self._moment.get_many([group.store_key(parts) for group in plan.groups])
        values: dict[str, Any] = dict.fromkeys(plan.defaults)
        for group, blob in zip(plan.groups, blobs, strict=True):
            values.update({f.address: value for f, value in group.read_one(blob, as_of)})
        missing = [address for address, value in values.items() if value is None]
        for address in missing:
            values[address] = plan.defaults[address]
        return Row(values, missing)

    def unbuilt(self, features: Sequence[FeatureSpec]) -> list[str]:
        """Return the addresses of features that are missing because the engine is not ready.

        Their folds are new, or reach further back than what was kept, and are being built from
        the log.
        """
        return [feature.address for feature in self._plan(features).unbuilt]

    def _plan(self, features: Sequence[FeatureSpec]) -> _Plan:
        if self._said is None:
            self._said = (self._moment.get_many([KEY])[0],)
        return self._reader.plan(features, self._said[0])

    def _check(self, as_of: int) -> None:
        if as_of <= self.mark.time:
            raise InputError(
                f"as_of={as_of} is not after the newest folded event ({self.mark.time}).",
                "Tiles answer reads of now only.",
            )


def _make_plan(features: tuple[FeatureSpec, ...], built: Built) -> _Plan:
    groups: dict[Family, _Group] = {}
    unbuilt = []
    for feature in features:
        family = built.family_of(feature)
        if family is None:
            unbuilt.append(feature)
            continue
        group = groups.setdefault(family, _Group(family))
        place, _ = family.place_of(feature.fold)
        group.plans.setdefault(place, []).append(feature)
        group.features.append(feature)
    entities = {entity.name: entity for feature in features for entity in feature.fold.keys}
    defaults = {feature.address: feature.default for feature in features}
    return _Plan(features, defaults, entities, list(groups.values()), unbuilt)


def _encoded(
    plan: _Plan, keys: Mapping[str, Scalar], besides: str | None = None
) -> dict[str, bytes]:
    """Return the value of each entity in bytes, of all but one that differs between rows."""
    parts = {}
    for name, entity in plan.entities.items():
        if name == besides:
            continue
        if name not in keys:
            raise InputError(f"The key {name} is missing.", f"Give a value for {name}.")
        parts[name] = encode_value(entity, keys[name])
    return parts


def _store_keys(
    plan: _Plan, keys: Mapping[str, Scalar], item: str | None, items: Sequence[Scalar]
) -> list[list[bytes]]:
    """Return for each group the keys of its blobs; every value is encoded once."""
    of_items = encode_values(plan.entities[item], items) if item in plan.entities else []
    parts = _encoded(plan, keys, item)
    found = []
    for group in plan.groups:
        names = [entity.name for entity in group.family.keys]
        place = names.index(item) if item in names else len(names)
        before = group.family.id + b"".join([parts[name] for name in names[:place]])
        if place == len(names):
            found.append([before])
        elif after := b"".join([parts[name] for name in names[place + 1 :]]):
            found.append([before + part + after for part in of_items])
        else:
            found.append([before + part for part in of_items])
    return found


_TYPES: Mapping[str, tuple[Any, Any]] = {
    "int": (np.int64, 0),
    "float": (np.float64, np.nan),
    "bool": (np.bool_, False),
    "str": (object, None),
    "vector": (np.float64, np.nan),
}


def _only(feature: FeatureSpec, value: Any) -> Column:
    """Return a column of one value; None is a missing one."""
    if value is None:
        return _missing(feature, 1)
    if feature.is_list:
        values = np.empty(1, object)
        values[0] = value
    else:
        values = np.array([value], _TYPES[feature.dtype][0])
    return Column(values, np.ones(1, np.bool_))


def _missing(feature: FeatureSpec, size: int) -> Column:
    """Return a column in which nothing is present."""
    values: Any
    if feature.is_list:
        values = np.empty(size, object)
        values[:] = [list(feature.default or ()) for _ in range(size)]
    else:
        kind, filler = _TYPES[feature.dtype]
        shape = (size, feature.fold.dim) if feature.dtype == "vector" else size
        filler = filler if feature.default is None else feature.default
        values = np.full(shape, filler, kind)
    return Column(values, np.zeros(size, np.bool_))
