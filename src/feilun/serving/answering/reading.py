"""What one capability reads for a request: candidates and features, at one moment of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from feilun.aggregation.frames import Column, Float32
from feilun.definitions.specs import (
    CapabilitySpec,
    EncodingSpec,
    EntitySpec,
    FeatureSpec,
    ModelSpec,
    Readable,
    RequestSpec,
    ThompsonSpec,
    encodings_of,
    features_of,
    inputs_of,
)
from feilun.features.encodings import Text, Vectors, encoded, row_columns, texts_of
from feilun.features.expressions import complete, request_columns
from feilun.features.one_row import OneRow
from feilun.features.online import Snapshot, missing_column
from feilun.features.vectors import assemble
from feilun.records.record import RECOMPUTE
from feilun.serving.answering.candidates import Candidates
from feilun.serving.http.parameters import ReadOptions, keys_of
from feilun.serving.scoring.lineup import Columns
from feilun.serving.snapshots.moment import Moment

_NO_ROWS: Float32 = np.empty((0, 0), np.float32)


class Reading(msgspec.Struct, frozen=True):
    """What one request read, all from one moment of the store, and the matrix made of it.

    ``columns`` names the meaning of the matrix as it is logged; ``missing`` the addresses that have
    a value in no row, ``changed`` those that mean something else by now. ``keys`` are the entities
    that it was read for. Where ``texts`` are still to be encoded, the matrix has no rows yet: see
    `Reader.finish`.
    """

    keys: dict[str, Any]
    items: list[Any]
    values: Mapping[str, Column]
    as_of: int
    folded_offset: int
    matrix: Float32
    missing: list[str]
    columns: str
    needs: _Needs
    of_matrix: _Needs
    changed: Sequence[str] = ()
    texts: Sequence[Text] = ()
    inputs: Mapping[str, Column] = msgspec.field(default_factory=dict)

    @property
    def flags(self) -> list[str]:
        """In which ways what was read is less than asked for."""
        if not (self.missing or self.changed):
            return []
        missing = [f"missing:{address}" for address in self.missing]
        return missing + [f"changed:{address}" for address in self.changed]


class _Needs(NamedTuple):
    """What is read together; ``wanted`` is everything that there is then, by address."""

    wanted: Mapping[str, Readable]
    features: tuple[FeatureSpec, ...]
    said: tuple[RequestSpec, ...]
    encodings: tuple[EncodingSpec, ...]

    @staticmethod
    def of(wanted: Sequence[Readable], instead: Mapping[str, FeatureSpec]) -> _Needs:
        """Return what is to be read for what is wanted; ``instead`` of some, others."""
        every = {each.address: each for each in (*inputs_of(wanted), *wanted)}
        inputs = {address: instead.get(address, each) for address, each in every.items()}
        return _Needs(
            wanted=inputs,
            features=tuple(instead.get(each.address, each) for each in features_of(wanted)),
            said=tuple(each for each in inputs.values() if isinstance(each, RequestSpec)),
            encodings=encodings_of(wanted),
        )

    def agree(self, other: _Needs) -> bool:
        """Whether an address that both have means one thing."""
        common = self.wanted.keys() & other.wanted.keys()
        return all(self.wanted[address] == other.wanted[address] for address in common)


class _Found(NamedTuple):
    """The lists that items are taken from, and which of them are not built or as they were."""

    lists: Mapping[str, Column]
    unbuilt: list[str]
    changed: list[str]


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
        self._shown = features_of((*spec.reads, *self._candidates.values))
        self._evidence: tuple[Readable, ...] = ()
        if isinstance(spec.explore, ThompsonSpec):
            self._evidence = (spec.explore.successes, spec.explore.trials)
        self._keys = keys_of(spec, entities)
        self._needs: dict[str, tuple[Sequence[FeatureSpec], _Needs, _Needs]] = {}

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
        if not options.personalised and self.subject is not None:
            del keys[self.subject]
        whole = len(keys) == len(self._keys)
        found = _Found({}, [], [])
        if self._candidates.lists and items is None:
            found = self._read_lists(moment, keys)
        if items is None:
            items = self._candidates.items(parameters, found.lists, columns.classes, model=model)
        if not whole and self._spec.item == self.subject:
            items = [type(item)() for item in items]  # nobody
        return self._read_items(moment, parameters, columns, keys=keys, items=items, found=found)

    def _read_lists(self, moment: Moment, keys: Mapping[str, Any]) -> _Found:
        """Read the lists that items are taken from."""
        snapshot = moment.snapshot
        current, changed = _current(snapshot, self._candidates.lists)
        lists = self._read(snapshot, current, keys, (), moment.as_of)
        return _Found(lists, snapshot.unbuilt(current), changed)

    def _read_items(
        self,
        moment: Moment,
        parameters: Mapping[str, Any],
        columns: Columns,
        *,
        keys: dict[str, Any],
        items: list[Any],
        found: _Found,
    ) -> Reading:
        """Read what is wanted of the items; ``found`` is what they were taken from."""
        snapshot, as_of = moment
        lists = found.lists
        shown, changed = _current(snapshot, self._shown)
        needs, of_matrix = self._needs_of(columns, shown)
        whole = len(keys) == len(self._keys)
        apart = of_matrix is not needs
        alone = whole and len(items) == 1 and not (lists or needs.encodings or of_matrix.encodings)
        values: Mapping[str, Column]
        inputs: Mapping[str, Column] = {}
        matrix, missing, texts = _NO_ROWS, list[str](), list[Text]()
        if columns.row is not None and alone:
            one = {**keys, self._spec.item: items[0]}
            row = of_row = snapshot.read_row(needs.features, one, as_of)
            if apart:
                of_row = snapshot.read_row(of_matrix.features, one, as_of)
            values = OneRow(needs.wanted, row, as_of, parameters)
            matrix, missing = columns.row.of(of_row, as_of, parameters)
        else:
            values = {**lists, **self._inputs(moment, needs, parameters, keys, items)}
            texts = texts_of(needs.encodings, values)
            if apart:
                inputs = self._inputs(moment, of_matrix, parameters, keys, items)
                texts = list(dict.fromkeys(texts + texts_of(of_matrix.encodings, inputs)))
        unknown = snapshot.unbuilt(of_matrix.features) + snapshot.damaged + found.unbuilt
        if apart:  # not of today's columns, which no model reads yet
            missing += snapshot.unbuilt(shown)
        reading = Reading(
            keys=keys,
            items=items,
            values=values,
            as_of=as_of,
            folded_offset=snapshot.mark.offset,
            matrix=matrix,
            missing=list(dict.fromkeys(missing + unknown)),
            columns=RECOMPUTE if unknown else columns.digest,
            needs=needs,
            of_matrix=of_matrix,
            changed=list(dict.fromkeys(found.changed + changed)),
            texts=texts,
            inputs=inputs,
        )
        return reading if texts or len(matrix) else self.finish(reading, columns, {})

    def finish(self, reading: Reading, columns: Columns, vectors: Vectors) -> Reading:
        """Make the matrix of what was read and of the vectors of its texts.

        Those that have none are missing, and the row is not trained on as it was served.
        """
        needs, of_matrix = reading.needs, reading.of_matrix
        values = inputs = _completed(needs, reading.values, vectors)
        if of_matrix is not needs:
            inputs = _completed(of_matrix, reading.inputs, vectors)
        matrix, missing = assemble(columns.columns, inputs, len(reading.items), columns.categories)
        if reading.items:
            missing += [e.address for e in self._evidence if not values[e.address].present.any()]
        missing = list(dict.fromkeys(missing + reading.missing))
        changed, keys = reading.changed, reading.keys
        if len(keys) < len(self._keys):
            known = (*columns.columns, *needs.features, *self._candidates.lists, *self._evidence)
            unread = {each.address for each in known if not self._may_read(each, keys)}
            missing = [address for address in missing if address not in unread]
            changed = [address for address in changed if address not in unread]
        whole = all(text in vectors for text in reading.texts)
        return msgspec.structs.replace(
            reading,
            values=values,
            matrix=matrix,
            missing=missing,
            changed=changed,
            columns=reading.columns if whole else RECOMPUTE,
            texts=(),
        )

    def _needs_of(self, columns: Columns, shown: Sequence[FeatureSpec]) -> tuple[_Needs, _Needs]:
        """Return what the answer is made of, and what the matrix is made of.

        They are one, read at once, unless the version was trained on other definitions. ``shown``
        is what the function looks at, as it can be read.
        """
        known = self._needs.get(columns.digest)
        if known is not None and known[0] is shown:
            return known[1:]
        instead = {each.address: each for each in shown}
        today = (*self._model.columns, *self._spec.reads, *self._candidates.values)
        needs, of_matrix = _Needs.of(today, instead), _Needs.of(columns.columns, {})
        if needs.agree(of_matrix):
            needs = of_matrix = _Needs.of((*columns.columns, *today), instead)
        self._needs[columns.digest] = shown, needs, of_matrix
        return needs, of_matrix

    def _inputs(
        self,
        moment: Moment,
        needs: _Needs,
        parameters: Mapping[str, Any],
        keys: Mapping[str, Any],
        items: Sequence[Any],
    ) -> Mapping[str, Column]:
        """Return what everything that is wanted is made of, by address."""
        read = self._read(moment.snapshot, needs.features, keys, items, moment.as_of)
        said = request_columns(needs.said, [moment.as_of], [parameters])
        return {**read, **said, **row_columns(needs.wanted.values(), items)}

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


def _current(
    snapshot: Snapshot, features: tuple[FeatureSpec, ...]
) -> tuple[tuple[FeatureSpec, ...], list[str]]:
    """Return features as they can be read, and the addresses of those that were redefined since."""
    if not features:
        return features, []
    current = snapshot.current(features)
    pairs = zip(features, current, strict=True)
    changed = [feature.address for feature, readable in pairs if feature is not readable]
    return (current if changed else features), changed


def _completed(
    needs: _Needs, values: Mapping[str, Column], vectors: Vectors
) -> Mapping[str, Column]:
    """Return everything that is wanted, by address."""
    inputs = {**values, **encoded(needs.encodings, values, vectors)}
    return complete(needs.wanted.values(), inputs)
