"""One capability: request → candidates → features → scores → the user's function → reply.

Every answer is logged durably, with the vectors that were scored, before the caller sees it: what
was served is what the next version is trained on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from feilun.definitions.rows import Scored
from feilun.definitions.specs import CapabilitySpec, Project
from feilun.errors import FeilunError, InputError, ModelError, NoModel, Unavailable
from feilun.features.online import OnlineReader
from feilun.records.record import NOT_PERSONALISED, Prediction
from feilun.records.split import unit_of
from feilun.serving.candidates import answered_items
from feilun.serving.champion import Champions, untrained_columns
from feilun.serving.exploring import Explorer
from feilun.serving.http import Request, Response
from feilun.serving.lineup import Assigned, Columns, Lineup, Served
from feilun.serving.metrics import Metrics
from feilun.serving.moment import Moments
from feilun.serving.predictions import PredictionLog
from feilun.serving.reading import Reader, Reading
from feilun.serving.requests import Parameters, ReadOptions
from feilun.serving.scoring import Scores
from feilun.serving.shadow import ShadowCall, Shadows
from feilun.serving.views import plain

REPLAYED = ((b"idempotent-replayed", b"true"),)
"""The header of a reply that was given before."""
NO_MODEL = "no_model"
MODEL_FAILED = "model_failed"
CHALLENGER_FAILED = "challenger_failed"

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
    shadows: Shadows
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class _Ranked:
    """What one version made of a request; ``scores`` are None where none scored it."""

    reading: Reading
    served: Served | None
    columns: Columns
    scores: Scores | None
    problems: list[str]

    @property
    def version(self) -> int | None:
        return None if self.served is None or self.scores is None else self.served.release.version


class Capability:
    """The route of one capability."""

    def __init__(self, spec: CapabilitySpec, project: Project, tools: Tools) -> None:
        self.spec = spec
        self._tools = tools
        self._untrained = untrained_columns(project.models[spec.model])
        self._reader = Reader(spec, project.entities, tools.reader, tools.moments)
        entities = {
            p.name: project.entities[p.name] for p in spec.parameters if p.name in project.entities
        }
        self.is_personal = self._reader.subject is not None
        self._parameters = Parameters(
            spec.path, spec.parameters, entities, personal=self.is_personal
        )
        self._encoder = msgspec.json.Encoder(enc_hook=plain)

    async def answer(self, request: Request) -> Response:
        """Answer one request; one that comes again gets the very answer that it got.

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
        if options.personalised and self._reader.wants_none(parameters, options):
            options = options._replace(personalised=False)
        lineup = self._tools.champions.lineup(self.spec.model)
        keys = self._reader.keys(parameters) if options.personalised else {}
        assigned = lineup.assign(unit_of(keys, request.id))
        ranked = await self._rank(parameters, options, lineup, assigned)
        reading = ranked.reading
        explorer = self._explorer(request.id)
        result = self._call(ranked, parameters, explorer)
        reply = CapabilityReply(
            result=result,
            request_id=request.id,
            model=self.spec.model,
            version=ranked.version,
            as_of=reading.as_of,
            folded_offset=reading.folded_offset,
            degraded=[
                *self._tools.moments.doubts(reading.as_of),
                *([] if options.personalised else [NOT_PERSONALISED]),
                *ranked.problems,
                *(f"missing:{address}" for address in reading.missing),
            ],
        )
        body = self._encode(reply)
        prediction = self._prediction(reply, ranked, parameters)
        prediction = msgspec.structs.replace(
            prediction,
            arm=assigned.arm,
            propensity=assigned.propensity,
            rollout=0 if lineup.rollout is None else lineup.rollout.sequence,
            reply=body if options.personalised else b"",
        )
        if explorer is not None:
            drawn = explorer.of(prediction.answer)
            prediction = msgspec.structs.replace(
                prediction,
                exploration=str(self.spec.explore),
                list_propensity=drawn.list_propensity,
                item_propensities=drawn.item_propensities,
            )
        digest = self._digest(parameters, options)
        first = await self._tools.predictions.keep(prediction, digest, request.team)
        if first:
            return Response(first, headers=REPLAYED, used=())
        self._count(reply)
        if lineup.shadow is not None:
            self._offer(lineup.shadow, ranked, prediction, digest, parameters, team=request.team)
        scored_by = (reply.model, reply.version) if reply.version else ("", 0)
        return Response(body, used=(scored_by,))

    async def _rank(
        self,
        parameters: Mapping[str, Any],
        options: ReadOptions,
        lineup: Lineup,
        assigned: Assigned,
    ) -> _Ranked:
        """Have the assigned version score; a challenger that fails gives way to the champion."""
        ranked = await self._rank_by(assigned.served, parameters, options)
        if assigned.arm == "challenger" and ranked.scores is None and lineup.champion is not None:
            instead = await self._rank_by(lineup.champion, parameters, options)
            ranked = replace(instead, problems=[CHALLENGER_FAILED, *instead.problems])
        if ranked.scores is None and ranked.served is not None and self.spec.fallback is None:
            raise Unavailable(
                f"Version {ranked.served.release.version} of {self.spec.model} failed, and "
                f"{self.spec.path} has no fallback.",
                "Roll it back (feilun rollback), or give the capability a fallback.",
            )
        return ranked

    async def _rank_by(
        self, served: Served | None, parameters: Mapping[str, Any], options: ReadOptions
    ) -> _Ranked:
        """Read for one version, or for the fallback if it is None, and score."""
        if served is None and self.spec.fallback is None:
            raise NoModel(
                f"No version of {self.spec.model} is in production.",
                "Train one (feilun train) or give the capability a fallback.",
            )
        columns = self._untrained if served is None else served.columns
        reading = self._reader.read(parameters, options, columns, model=served is not None)
        if served is None:
            return _Ranked(reading, None, columns, None, [NO_MODEL])
        try:
            scores = await served.scorer.score(reading.matrix)
        except ModelError as error:
            version = str(served.release.version)
            self._tools.metrics.add(
                "feilun_model_failures_total", model=self.spec.model, version=version
            )
            _log.warning("Version %s of %s failed: %s", version, self.spec.model, error)
            return _Ranked(reading, served, columns, None, [MODEL_FAILED])
        return _Ranked(reading, served, columns, scores, [])

    def _explorer(self, request_id: str) -> Explorer | None:
        if self.spec.explore is None:
            return None
        return Explorer(self.spec.explore, f"{self.spec.name}/{request_id}")

    def _call(
        self, ranked: _Ranked, parameters: Mapping[str, Any], explorer: Explorer | None
    ) -> Any:
        """Hand the scored items to the user's function."""
        reading, scores = ranked.reading, ranked.scores
        known = self._reader.fallback_scores(reading) if scores is None else scores
        scored = Scored(
            reading.items, known, reading.values, fallback=scores is None, draws=explorer
        )
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

    def _prediction(
        self, reply: CapabilityReply, ranked: _Ranked, parameters: Mapping[str, Any]
    ) -> Prediction:
        """Return what is logged of an answer, but for how it was chosen."""
        reading = ranked.reading
        hidden = self._reader.keys(parameters).keys() - reading.keys.keys()
        return Prediction(
            capability=self.spec.name,
            model=self.spec.model,
            version=reply.version or 0,
            as_of=reading.as_of,
            folded_offset=reading.folded_offset,
            keys=reading.keys,
            item=self.spec.item,
            items=reading.items,
            columns=reading.columns,
            vectors=reading.matrix.tobytes(),
            scores=b"" if ranked.scores is None else ranked.scores.tobytes(),
            answer=answered_items(reply.result, self.spec.item, reading.items),
            degraded=reply.degraded,
            request_id=reply.request_id,
            # What the next version is trained on counts too, though this one does not read it.
            request={
                name: parameters[name]
                for name in (*ranked.columns.said, *self._untrained.said)
                if name not in hidden
            },
        )

    def _offer(
        self,
        shadow: Served,
        ranked: _Ranked,
        prediction: Prediction,
        digest: bytes,
        parameters: Mapping[str, Any],
        *,
        team: str,
    ) -> None:
        """Let a shadow score the same items: the same matrix, where it has the same columns."""

        def read() -> Reading:
            if shadow.columns == ranked.columns:
                return ranked.reading
            now = ReadOptions(personalised=prediction.personalised)
            items = ranked.reading.items
            return self._reader.read(parameters, now, shadow.columns, model=True, items=items)

        self._tools.shadows.offer(ShadowCall(shadow, prediction, digest, read, team))

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
        said = dict(parameters)
        if not options.personalised and self._reader.subject is not None:
            del said[self._reader.subject]  # a digest of few possible values tells the value
        asked = _deterministic.encode((self.spec.name, said, options.as_of))
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
