"""``GET /api/<view>``: the features of one entity, now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec
import numpy as np

from feilun.definitions.specs import FeatureSpec, ParameterSpec, Readable, ViewSpec, inputs_of
from feilun.features.expressions import complete
from feilun.features.online import OnlineReader, Row, Snapshot
from feilun.features.read_plan import stand_in
from feilun.serving.http.exchange import Request, Response
from feilun.serving.http.parameters import Parameters
from feilun.serving.snapshots.moment import Moments


class ViewReply(msgspec.Struct):
    """The features of one entity. What is missing is null, or its default, and is named.

    A list of nothing is empty, which is a value.
    """

    view: str
    keys: dict[str, int | str]
    features: dict[str, Any]
    request_id: str
    as_of: int
    folded_offset: int
    degraded: list[str]


def view_path(spec: ViewSpec) -> str:
    """Return where a view answers."""
    return f"/api/{spec.name}"


def key_parameters(spec: ViewSpec) -> tuple[ParameterSpec, ...]:
    """Return the parameters of a view: the entities whose features it has."""
    return tuple(
        ParameterSpec(entity.name, int if entity.dtype == "int" else str, True, None)
        for entity in spec.entities
    )


class View:
    """The route of one feature view."""

    def __init__(self, spec: ViewSpec, reader: OnlineReader, moments: Moments) -> None:
        self.spec = spec
        self.path = view_path(spec)
        entities = {entity.name: entity for entity in spec.entities}
        self._read = Parameters(self.path, key_parameters(spec), entities)
        self._reader = reader
        self._moments = moments
        self._encoder = msgspec.json.Encoder(enc_hook=plain)

    async def answer(self, request: Request) -> Response:
        """Return the features of the entity that the request names."""
        keys, options = self._read.read(request)
        await self._moments.reach(options)
        with self._reader.snapshot() as snapshot:
            mark = snapshot.mark
            as_of = self._moments.as_of(mark, options)
            current = snapshot.current(self.spec.features)
            row = self._row(snapshot, current, keys, as_of)
            unknown = {*snapshot.unbuilt(current), *snapshot.damaged}
        changed = {
            now.address
            for now, read in zip(self.spec.features, current, strict=True)
            if now is not read
        }
        features = self.spec.readable
        reply = ViewReply(
            view=self.spec.name,
            keys=keys,
            features={f.name: row.values[f.address] for f in features},
            request_id=request.id,
            as_of=as_of,
            folded_offset=mark.offset,
            degraded=self._moments.doubts(as_of)
            + [f"changed:{f.address}" for f in features if _is_of(f, changed)]
            + [
                f"missing:{f.address}"
                for f in features
                if _is_of(f, unknown) or (f.address in row.missing and not f.is_list)  # but empty
            ],
        )
        return Response(self._encoder.encode(reply))

    def _row(
        self,
        snapshot: Snapshot,
        current: Sequence[FeatureSpec],
        keys: Mapping[str, int | str],
        as_of: int,
    ) -> Row:
        """Read the view's features; expressions are computed of columns."""
        if not self.spec.expressions:
            return snapshot.read_row(current, keys, as_of)
        features = self.spec.readable
        columns = complete(features, snapshot.read(current, keys, None, (), as_of))
        missing = [f.address for f in features if not columns[f.address].present[0]]
        values = {
            f.address: stand_in(f) if f.address in missing else columns[f.address].values[0]
            for f in features
        }
        return Row(values, missing)


def _is_of(wanted: Readable, addresses: Set[str]) -> bool:
    """Whether it is one of the features at ``addresses``, or computed from one."""
    return any(part.address in addresses for part in inputs_of((wanted,)))


def plain(value: Any) -> Any:
    """Turn a NumPy value into what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")
