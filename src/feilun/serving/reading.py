"""What one capability reads for a request: candidates and features, at one moment of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from feilun.aggregation.frames import Column, Float32
from feilun.definitions.specs import (
    CapabilitySpec,
    EncodingSpec,
    EntitySpec,
    FeatureSpec,
    Readable,
    RequestSpec,
    encodings_of,
    features_of,
    inputs_of,
)
from feilun.features.encodings import Text, Vectors, encoded, texts_of
from feilun.features.expressions import complete, request_columns
from feilun.features.one_row import OneRow
from feilun.features.online import Row, Snapshot, missing_column
from feilun.features.vectors import assemble
from feilun.records.record import RECOMPUTE
from feilun.serving.candidates import Candidates
from feilun.serving.lineup import Columns
from feilun.serving.moment import Moment
from feilun.serving.requests import ReadOptions, is_list

_NO_ROWS: Float32 = np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one request read, all from one moment of the store, and the matrix made of it.

    ``columns`` names the meaning of the matrix as it is logged; ``missing`` the addresses that have
    a value in no row. ``keys`` are the entities that it was read for. Where ``texts`` are still to
    be encoded, the matrix has no rows yet: see `Reader.finish`.
    """

    keys: dict[str, Any]
    items: list[Any]
    values: Mapping[str, Column]
    as_of: int
    folded_offset: int
    matrix: Float32
    missing: list[str]
    columns: str
    texts: Sequence[Text] = ()


def keys_of(spec: CapabilitySpec, entities: Mapping[str, EntitySpec]) -> tuple[str, ...]:
    """Return the entities that a request names one of, the one it is about first."""
    return tuple(
        p.name for p in spec.parameters if p.name in entities and not is_list(p.annotation)
    )


class _Needs(NamedTuple):
    """What a capability reads for versions whose columns have one digest.

    ``wanted`` is everything that there is then, by address.
    """

    wanted: Mapping[str, Readable]
    features: tuple[FeatureSpec, ...]
    said: tuple[RequestSpec, ...]
    encodings: tuple[EncodingSpec, ...]


class Reader:
    """Reads for the requests of one capability.

    Parameters
    ----------
    spec : CapabilitySpec
        What it needs.
    entities : mapping
        The project's entities, by name.
    """

    def __init__(self, spec: CapabilitySpec, entities: Mapping[str, EntitySpec]) -> None:
        self._spec = spec
        self._candidates = Candidates(spec, entities[spec.item])
        self._wish = () if spec.opt_out is None else (spec.opt_out,)
        self._keys = keys_of(spec, entities)
        self._needs: dict[str, _Needs] = {}

    @property
    def subject(self) -> str | None:
        """The entity that requests are about: the first that they name; None if they name none."""
        return next(iter(self._keys), None)

    def keys(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entities that a request names."""
        return {name: parameters[name] for name in self._keys}

    def wants_none(self, moment: Moment, parameters: Mapping[str, Any]) -> bool:
        """Return whether the subject has opted out of personalisation; nothing else is read.

        While the engine is still building the feature, or where what is stored of it is damaged,
        nobody knows, and it is taken for yes.
        """
        wish = self._wish
        if not wish:
            return False
        snapshot, address = moment.snapshot, wish[0].address
        row = snapshot.read_row(wish, self.keys(parameters), moment.as_of)
        unknown = snapshot.unbuilt(wish) or address in snapshot.damaged
        return bool(row.values[address]) or bool(unknown)

    def read(
        self,
        moment: Moment,
        parameters: Mapping[str, Any],
        options: ReadOptions,
        columns: Columns,
        *,
        model: bool,
        items: list[Any] | None = None,
    ) -> Reading:
        """Read candidates and features, and make the matrix if no text has to be encoded for it.

        Parameters
        ----------
        moment : Moment
            When the read stands.
        parameters : mapping
            Of the request.
        options : ReadOptions
            Whether it may read by whom the request is about.
        columns : Columns
            What the matrix holds.
        model : bool
            Whether a model scores it.
        items : list, optional
            The items to read for, where they are known.
        """
        keys = self.keys(parameters)
        needs = self._needs_of(columns)
        if not options.personalised and self.subject is not None:
            del keys[self.subject]
        whole = len(keys) == len(self._keys)
        snapshot, as_of = moment
        lists: Mapping[str, Column] = {}
        if self._candidates.lists and items is None:
            lists = self._read(snapshot, self._candidates.lists, keys, (), as_of)
        if items is None:
            items = self._candidates.items(parameters, lists, model=model)
        if not whole and self._spec.item == self.subject:
            items = [type(item)() for item in items]  # nobody
        read: Row | Mapping[str, Column]
        alone = whole and len(items) == 1 and not lists and not needs.encodings
        if columns.row is not None and alone:
            row = {**keys, self._spec.item: items[0]}
            read = snapshot.read_row(needs.features, row, as_of)
        else:
            read = self._read(snapshot, needs.features, keys, items, as_of)
        unknown = snapshot.unbuilt(needs.features) + snapshot.damaged
        if lists:
            unknown += snapshot.unbuilt(self._candidates.lists)
        values: Mapping[str, Column]
        matrix, missing, texts = _NO_ROWS, list[str](), list[Text]()
        if isinstance(read, Row):
            assert columns.row is not None
            values = OneRow(needs.wanted, read, as_of, parameters)
            matrix, missing = columns.row.of(read, as_of, parameters)
        else:
            said = request_columns(needs.said, [as_of], [parameters])
            values = {**lists, **read, **said}
            texts = texts_of(needs.encodings, values)
        reading = Reading(
            keys=keys,
            items=items,
            values=values,
            as_of=as_of,
            folded_offset=snapshot.mark.offset,
            matrix=matrix,
            missing=list(dict.fromkeys(missing + unknown)),
            columns=RECOMPUTE if unknown else columns.digest,
            texts=texts,
        )
        return reading if texts or isinstance(read, Row) else self.finish(reading, columns, {})

    def finish(self, reading: Reading, columns: Columns, vectors: Vectors) -> Reading:
        """Make the matrix of what was read and of the vectors of its texts.

        Those that have none are missing, and the row is not trained on as it was served.
        """
        needs = self._needs_of(columns)
        inputs = {**reading.values, **encoded(needs.encodings, reading.values, vectors)}
        values = complete(needs.wanted.values(), inputs)
        matrix, missing = assemble(columns.columns, values, len(reading.items), columns.categories)
        missing = list(dict.fromkeys(missing + reading.missing))
        keys = reading.keys
        if len(keys) < len(self._keys):
            known = (*columns.columns, *needs.features, *self._candidates.lists)
            unread = {each.address for each in known if not self._may_read(each, keys)}
            missing = [address for address in missing if address not in unread]
        whole = all(text in vectors for text in reading.texts)
        return replace(
            reading,
            values=values,
            matrix=matrix,
            missing=missing,
            columns=reading.columns if whole else RECOMPUTE,
            texts=(),
        )

    def _needs_of(self, columns: Columns) -> _Needs:
        needs = self._needs.get(columns.digest)
        if needs is None:
            wanted = (*columns.columns, *self._spec.reads, *self._candidates.values)
            inputs = {each.address: each for each in inputs_of(wanted)}
            needs = self._needs[columns.digest] = _Needs(
                wanted={**inputs, **{each.address: each for each in wanted}},
                features=features_of(wanted),
                said=tuple(each for each in inputs.values() if isinstance(each, RequestSpec)),
                encodings=encodings_of(wanted),
            )
        return needs

    def _read(
        self,
        snapshot: Snapshot,
        features: Sequence[FeatureSpec],
        keys: Mapping[str, Any],
        items: Sequence[Any],
        as_of: int,
    ) -> dict[str, Column]:
        """Read features; those of an entity that is not in ``keys`` are missing, unlooked at."""
        item = self._spec.item
        if len(keys) == len(self._keys):
            return snapshot.read(features, keys, item, items, as_of)
        known = [feature for feature in features if self._may_read(feature, keys)]
        columns = snapshot.read(known, keys, item, items, as_of)
        for feature in features:
            if feature.address not in columns:
                each_item = item in [entity.name for entity in feature.keys]
                columns[feature.address] = missing_column(feature, len(items) if each_item else 1)
        return columns

    def _may_read(self, wanted: Readable, keys: Mapping[str, Any]) -> bool:
        item = self._spec.item
        named = {*keys} if item in self._keys else {*keys, item}
        return all(key.name in named for each in features_of((wanted,)) for key in each.keys)

    def fallback_scores(self, reading: Reading) -> Any:
        """Return what the fallback makes of the items that were read."""
        return self._candidates.fallback_scores(reading.items, reading.values)
