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
    ModelSpec,
    Readable,
    RequestSpec,
    features_of,
    inputs_of,
)
from feilun.features.expressions import complete, request_columns
from feilun.features.one_row import OneRow
from feilun.features.online import Snapshot, missing_column
from feilun.features.vectors import assemble
from feilun.records.record import RECOMPUTE
from feilun.serving.candidates import Candidates
from feilun.serving.lineup import Columns
from feilun.serving.moment import Moment
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


def keys_of(spec: CapabilitySpec, entities: Mapping[str, EntitySpec]) -> tuple[str, ...]:
    """Return the entities that a request names one of, the one it is about first."""
    return tuple(
        p.name for p in spec.parameters if p.name in entities and not is_list(p.annotation)
    )


class _Needs(NamedTuple):
    """What is read together; ``wanted`` is everything that there is then, by address."""

    wanted: Mapping[str, Readable]
    features: tuple[FeatureSpec, ...]
    said: tuple[RequestSpec, ...]

    @staticmethod
    def of(wanted: Sequence[Readable]) -> _Needs:
        """Return what is to be read for what is wanted."""
        inputs = {each.address: each for each in inputs_of(wanted)}
        return _Needs(
            wanted={**inputs, **{each.address: each for each in wanted}},
            features=features_of(wanted),
            said=tuple(each for each in inputs.values() if isinstance(each, RequestSpec)),
        )

    def agree(self, other: _Needs) -> bool:
        """Whether an address that both have means one thing."""
        common = self.wanted.keys() & other.wanted.keys()
        return all(self.wanted[address] == other.wanted[address] for address in common)


class Reader:
    """Reads for the requests of one capability.

    Parameters
    ----------
    spec : CapabilitySpec
        What it needs.
    model : ModelSpec
        Who scores, as the project defines it now: the function may look at what it reads.
    entities : mapping
        The project's entities, by name.
    """

    def __init__(
        self, spec: CapabilitySpec, model: ModelSpec, entities: Mapping[str, EntitySpec]
    ) -> None:
        self._spec = spec
        self._model = model
        self._candidates = Candidates(spec, entities[spec.item])
        self._wish = () if spec.opt_out is None else (spec.opt_out,)
        self._keys = keys_of(spec, entities)
        self._needs: dict[str, tuple[_Needs, _Needs]] = {}

    @property
    def subject(self) -> str | None:
        """The entity that requests are about: the first that they name; None if they name none."""
        return next(iter(self._keys), None)

    def keys(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entities that a request names."""
        return {name: parameters[name] for name in self._keys}

    def wants_none(self, moment: Moment, parameters: Mapping[str, Any]) -> bool:
        """Return whether the subject has opted out of personalisation; nothing else is read.

        While the engine is still building the feature nobody knows, and it is taken for yes.
        """
        wish = self._wish
        if not wish:
            return False
        row = moment.snapshot.read_row(wish, self.keys(parameters), moment.as_of)
        return bool(row.values[wish[0].address]) or bool(moment.snapshot.unbuilt(wish))

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
        """Read candidates and features, and make the matrix.

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
        needs, of_matrix = self._needs_of(columns)
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
        values: Mapping[str, Column]
        unbuilt = snapshot.unbuilt(columns.features)
        if columns.row is not None and whole and len(items) == 1 and not lists:
            one = {**keys, self._spec.item: items[0]}
            row = of_row = snapshot.read_row(needs.features, one, as_of)
            if of_matrix is not needs:
                of_row = snapshot.read_row(of_matrix.features, one, as_of)
            values = OneRow(needs.wanted, row, as_of, parameters)
            matrix, missing = columns.row.of(of_row.values, as_of, parameters)
        else:
            values = of_rows = self._values(moment, needs, parameters, keys, items)
            if of_matrix is not needs:
                of_rows = self._values(moment, of_matrix, parameters, keys, items)
            values = {**lists, **values}
            matrix, missing = assemble(columns.columns, of_rows, len(items), columns.categories)
        missing = list(dict.fromkeys(missing + unbuilt))
        if not whole:
            unread = {each.address for each in columns.columns if not self._may_read(each, keys)}
            missing = [address for address in missing if address not in unread]
        return Reading(
            keys=keys,
            items=items,
            values=values,
            as_of=as_of,
            folded_offset=snapshot.mark.offset,
            matrix=matrix,
            missing=missing,
            columns=RECOMPUTE if unbuilt else columns.digest,
        )

    def _needs_of(self, columns: Columns) -> tuple[_Needs, _Needs]:
        """Return what the answer is made of, and what the matrix is made of.

        They are one, read at once, unless the version was trained on other definitions.
        """
        needs = self._needs.get(columns.digest)
        if needs is None:
            today = (*self._model.columns, *self._spec.reads, *self._candidates.values)
            apart = _Needs.of(today), _Needs.of(columns.columns)
            together = _Needs.of((*columns.columns, *today))
            agree = apart[0].agree(apart[1])
            needs = self._needs[columns.digest] = (together, together) if agree else apart
        return needs

    def _values(
        self,
        moment: Moment,
        needs: _Needs,
        parameters: Mapping[str, Any],
        keys: Mapping[str, Any],
        items: Sequence[Any],
    ) -> Mapping[str, Column]:
        """Return everything that is wanted, by address."""
        read = self._read(moment.snapshot, needs.features, keys, items, moment.as_of)
        said = request_columns(needs.said, [moment.as_of], [parameters])
        return complete(needs.wanted.values(), {**read, **said})

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
