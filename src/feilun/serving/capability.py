"""One capability: request → candidates → features → scores → the user's function → reply.

Every answer is logged durably, with the vectors that were scored, before the caller sees it: what
was served is what the next version is trained on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from feilun.aggregation.frames import Column, Float32
from feilun.definitions.rows import Scored
from feilun.definitions.specs import (
    CapabilitySpec,
    Project,
    RequestSpec,
    features_of,
    inputs_of,
)
from feilun.errors import FeilunError, InputError, ModelError, NoModel, Unavailable
from feilun.features.expressions import complete, request_columns
from feilun.features.online import OnlineReader
from feilun.features.vectors import assemble
from feilun.records.record import RECOMPUTE, Prediction
from feilun.serving.candidates import Candidates, answered_items
from feilun.serving.champion import Champions, Columns, Served, untrained_columns
from feilun.serving.http import Request, Response
from feilun.serving.metrics import Metrics
from feilun.serving.moment import Moments
from feilun.serving.predictions import PredictionLog
from feilun.serving.requests import Parameters, ReadOptions, is_list
from feilun.serving.scoring import Scores
from feilun.serving.views import plain

NO_MODEL = "no_model"
MODEL_FAILED = "model_failed"

_log = logging.getLogger(__name__)
_deterministic = msgspec.msgpack.Encoder(order="deterministic")


class CapabilityError(FeilunError):
    """The capability's own function raised, or returned what has no form in JSON."""

    code = "capability_failed"


class CapabilityReply(msgspec.Struct):
    """The answer, with what it was made from. ``version`` is null where no model scored."""

    result: Any
    request_id: str
    model: str
    version: int | None
    as_of: int
    folded_offset: int
    degraded: list[str]


@dataclass(frozen=True)
class Tools:
    """What every capability of a gateway works with."""

    reader: OnlineReader
    champions: Champions
    moments: Moments
    predictions: PredictionLog
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one request read, all from one moment of the store."""

    keys: dict[str, Any]
    items: list[Any]
    columns: Mapping[str, Column]
    unbuilt: list[str]
    as_of: int
    folded_offset: int


class Capability:
    """The route of one capability."""

    def __init__(self, spec: CapabilitySpec, project: Project, tools: Tools) -> None:
        self.spec = spec
        self._tools = tools
        self._untrained = untrained_columns(project.models[spec.model])
        self._said = tuple(each for each in inputs_of(spec.reads) if isinstance(each, RequestSpec))
        self._candidates = Candidates(spec, project.entities[spec.item])
        entities = {
            p.name: project.entities[p.name] for p in spec.parameters if p.name in project.entities
        }
        self._keys = tuple(
            p.name
            for p in spec.parameters
            if p.name in entities and p.name != spec.item and not is_list(p.annotation)
        )
        self._parameters = Parameters(spec.path, spec.parameters, entities)
        self._encoder = msgspec.json.Encoder(enc_hook=plain)

    async def answer(self, request: Request) -> Response:
        """Answer one request.

        Raises
        ------
        InputError
            If its parameters cannot be used.
        NoModel
            If no version is in production and there is no fallback.
        Unavailable
            If the model failed and there is no fallback, or the log cannot take the prediction.
        CapabilityError
            If the user's function failed.
        """
        parameters, options = self._parameters.read(request)
        await self._tools.moments.reach(options)
        served = self._tools.champions.get(self.spec.model)
        if served is None and self.spec.fallback is None:
            raise NoModel(
                f"No version of {self.spec.model} is in production.",
                "Train one (feilun train) or give the capability a fallback.",
            )
        columns = served.columns if served is not None else self._untrained
        reading = self._read(parameters, options, columns, model=served is not None)
        matrix, missing = assemble(
            columns.columns, reading.columns, len(reading.items), columns.categories
        )
        scores, problem = await self._score(served, matrix)
        result = self._call(reading, scores, parameters)
        version = served.release.version if served is not None and scores is not None else None
        degraded = self._tools.moments.doubts(reading.as_of)
        degraded += [problem] if problem else []
        degraded += [f"missing:{address}" for address in dict.fromkeys(missing + reading.unbuilt)]
        reply = CapabilityReply(
            result=result,
            request_id=request.id,
            model=self.spec.model,
            version=version,
            as_of=reading.as_of,
            folded_offset=reading.folded_offset,
            degraded=degraded,
        )
        body = self._encode(reply)
        prediction = Prediction(
            capability=self.spec.name,
            model=self.spec.model,
            version=version or 0,
            as_of=reading.as_of,
            folded_offset=reading.folded_offset,
            keys=reading.keys,
            item=self.spec.item,
            items=reading.items,
            columns=RECOMPUTE if reading.unbuilt else columns.digest,
            vectors=matrix.tobytes(),
            scores=b"" if scores is None else scores.tobytes(),
            answer=answered_items(result, self.spec.item, reading.items),
            degraded=degraded,
            request_id=request.id,
            # What the next version is trained on counts too, though this one does not read it.
            request={
                said.name: parameters[said.name]
                for said in (*columns.request, *self._untrained.request)
                if not said.is_moment
            },
        )
        await self._tools.predictions.keep(prediction, self._digest(parameters, options))
        self._count(reply)
        return Response(body)

    def _read(
        self,
        parameters: Mapping[str, Any],
        options: ReadOptions,
        columns: Columns,
        *,
        model: bool,
    ) -> _Reading:
        """Read candidates and features from one moment of the store."""
        keys = {name: parameters[name] for name in self._keys}
        wanted = (*columns.columns, *self.spec.reads, *self._candidates.values)
        with self._tools.reader.snapshot() as snapshot:
            mark = snapshot.mark
            as_of = self._tools.moments.as_of(mark, options)
            lists: Mapping[str, Column] = {}
            if self._candidates.lists:
                lists = snapshot.read(self._candidates.lists, keys, None, (), as_of)
            items = self._candidates.items(parameters, lists, model=model)
            read = snapshot.read(features_of(wanted), keys, self.spec.item, items, as_of)
            unbuilt = snapshot.unbuilt(columns.features)
        said = request_columns((*columns.request, *self._said), [as_of], [parameters])
        found = complete(wanted, {**lists, **read, **said})
        return _Reading(keys, items, found, unbuilt, as_of, mark.offset)

    async def _score(self, served: Served | None, matrix: Float32) -> tuple[Scores | None, str]:
        """Return the model's scores, or None and why there are none."""
        if served is None:
            return None, NO_MODEL
        try:
            return await served.scorer.score(matrix), ""
        except ModelError as error:
            version = str(served.release.version)
            self._tools.metrics.add(
                "feilun_model_failures_total", model=self.spec.model, version=version
            )
            _log.warning("Version %s of %s failed: %s", version, self.spec.model, error)
            if self.spec.fallback is None:
                raise Unavailable(
                    f"Version {version} of {self.spec.model} failed, and {self.spec.path} has no "
                    "fallback.",
                    "Roll it back (feilun rollback), or give the capability a fallback.",
                ) from error
            return None, MODEL_FAILED

    def _call(self, reading: _Reading, scores: Scores | None, parameters: Mapping[str, Any]) -> Any:
        """Hand the scored items to the user's function."""
        if scores is None:
            known = self._candidates.fallback_scores(reading.items, reading.columns)
        else:
            known = scores
        scored = Scored(reading.items, known, reading.columns, fallback=scores is None)
        try:
            return self.spec.function(scored, **parameters)
        except InputError:
            raise  # the function's own way to refuse a request
        except Exception as error:  # the user's code may raise anything
            _log.exception("The function of %s failed", self.spec.path)
            raise CapabilityError(
                f"The function of {self.spec.path} raised {type(error).__name__}.",
                "Its traceback is in the gateway's log.",
            ) from error

    def _encode(self, reply: CapabilityReply) -> bytes:
        try:
            return self._encoder.encode(reply)
        except (TypeError, ValueError, NotImplementedError, RecursionError) as error:
            raise CapabilityError(
                f"The reply of {self.spec.path} has no form in JSON: {error}.",
                "Return numbers, strings, lists, dictionaries or dataclasses.",
            ) from error

    def _digest(self, parameters: Mapping[str, Any], options: ReadOptions) -> bytes:
        """Digest what was asked, not what was answered: a retry asks the same."""
        asked = _deterministic.encode((self.spec.name, parameters, options.as_of))
        return hashlib.blake2b(asked, digest_size=16).digest()

    def _count(self, reply: CapabilityReply) -> None:
        metrics = self._tools.metrics
        metrics.add(
            "feilun_predictions_total",
            capability=self.spec.name,
            model=reply.model,
            version=str(reply.version or 0),
        )
        for flag in reply.degraded:
            metrics.add("feilun_degraded_total", capability=self.spec.name, flag=flag)
