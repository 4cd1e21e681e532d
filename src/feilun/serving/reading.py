"""What one capability reads for a request: candidates and features, at one moment of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from feilun.aggregation.frames import Column, Float32
from feilun.definitions.specs import (
    CapabilitySpec,
    EntitySpec,
    FeatureSpec,
    Readable,
    RequestSpec,
    features_of,
    inputs_of,
)
from feilun.features.expressions import complete, request_columns
from feilun.features.one_row import OneRow, is_plain
from feilun.features.online import OnlineReader, Row, Snapshot
from feilun.features.vectors import assemble
from feilun.records.record import RECOMPUTE
from feilun.serving.candidates import Candidates
from feilun.serving.lineup import Columns
from feilun.serving.moment import Moments
from feilun.serving.requests import ReadOptions, is_list


@dataclass(frozen=True, slots=True)
class Reading:
    """What one request read, all from one moment of the store, and the matrix made of it.

    ``columns`` names the meaning of the matrix as it is logged; ``missing`` the addresses that have
    a value in no row. ``keys`` are the entities that it was read for.
    """

    keys: dict[str, Any]
    items: list[Any]
    values: Mapping[str, Column]
    as_of: int
    folded_offset: int
    matrix: Float32
    missing: list[str]
    columns: str


class _Needs(NamedTuple):
    """What a capability reads for versions whose columns have one digest.

    ``wanted`` is everything that there is then, by address.
    """

    wanted: Mapping[str, Readable]
    features: tuple[FeatureSpec, ...]
    said: tuple[RequestSpec, ...]
    plain: bool


class Reader:
    """Reads for the requests of one capability.

    Parameters
    ----------
    spec : CapabilitySpec
        What it needs.
    entities : mapping
        The project's entities, by name.
    reader : OnlineReader
        Where features come from.
    moments : Moments
        When reads stand.
    """

    def __init__(
        self,
        spec: CapabilitySpec,
        entities: Mapping[str, EntitySpec],
        reader: OnlineReader,
        moments: Moments,
    ) -> None:
        self._spec = spec
        self._reader = reader
        self._moments = moments
        self._candidates = Candidates(spec, entities[spec.item])
        self._keys = tuple(
            p.name for p in spec.parameters if p.name in entities and not is_list(p.annotation)
        )
        self._needs: dict[str, _Needs] = {}

    def keys(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entities that a request names."""
        return {name: parameters[name] for name in self._keys}

    def read(
        self,
        parameters: Mapping[str, Any],
        options: ReadOptions,
        columns: Columns,
        *,
        model: bool,
        items: list[Any] | None = None,
    ) -> Reading:
        """Read candidates and features, and make the matrix.

        Parameters
        ----------
        parameters : mapping
            Of the request.
        options : ReadOptions
            When the read stands.
        columns : Columns
            What the matrix holds.
        model : bool
            Whether a model scores it.
        items : list, optional
            The items to read for, where they are known.
        """
        keys = self.keys(parameters)
        needs = self._needs_of(columns)
        with self._reader.snapshot() as snapshot:
            mark = snapshot.mark
            as_of = self._moments.as_of(mark, options)
            lists: Mapping[str, Column] = {}
            if self._candidates.lists and items is None:
                lists = self._read(snapshot, self._candidates.lists, keys, (), as_of)
            if items is None:
                items = self._candidates.items(parameters, lists, model=model)
            read: Row | Mapping[str, Column]
            if needs.plain and len(items) == 1 and not lists:
                row = {**keys, self._spec.item: items[0]}
                read = self._read_row(snapshot, needs.features, row, as_of)
            else:
                read = self._read(snapshot, needs.features, keys, items, as_of)
            unbuilt = snapshot.unbuilt(columns.features)
        values: Mapping[str, Column]
        if isinstance(read, Row):
            values = one = OneRow(needs.wanted, read, as_of, parameters)
            matrix, missing = one.matrix(columns.columns, columns.categories)
        else:
            said = request_columns(needs.said, [as_of], [parameters])
            values = complete(needs.wanted.values(), {**lists, **read, **said})
            matrix, missing = assemble(columns.columns, values, len(items), columns.categories)
        return Reading(
            keys=keys,
            items=items,
            values=values,
            as_of=as_of,
            folded_offset=mark.offset,
            matrix=matrix,
            missing=list(dict.fromkeys(missing + unbuilt)),
            columns=RECOMPUTE if unbuilt else columns.digest,
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
                plain=is_plain(columns.columns),
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
        return snapshot.read(features, keys, self._spec.item, items, as_of)

    def _read_row(
        self,
        snapshot: Snapshot,
        features: Sequence[FeatureSpec],
        row: Mapping[str, Any],
        as_of: int,
    ) -> Row:
        return snapshot.read_row(features, row, as_of)

    def fallback_scores(self, reading: Reading) -> Any:
        """Return what the fallback makes of the items that were read."""
        return self._candidates.fallback_scores(reading.items, reading.values)
