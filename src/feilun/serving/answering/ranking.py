"""One model's part of an answer: what it read, what it made of the rows, and what is logged."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from feilun.definitions.specs import CapabilitySpec, Project
from feilun.errors import FeilunError, ModelError, NoModel, Unavailable
from feilun.features.online import OnlineReader
from feilun.records.record import Prediction
from feilun.serving.answering.reading import Reader, Reading
from feilun.serving.answering.shadow import Shadows
from feilun.serving.http.parameters import ReadOptions
from feilun.serving.log.predictions import PredictionLog
from feilun.serving.metrics import Metrics
from feilun.serving.scoring.champion import Champions, untrained_columns
from feilun.serving.scoring.encoding import Encoding
from feilun.serving.scoring.guarded_scorer import Scores
from feilun.serving.scoring.lineup import Assigned, Columns, Lineup, Served
from feilun.serving.snapshots.moment import Moment, Moments

NO_MODEL = "no_model"
MODEL_FAILED = "model_failed"
CHALLENGER_FAILED = "challenger_failed"
ENCODER_FAILED = "encoder_failed"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tools:
    """What every capability of a gateway works with."""

    reader: OnlineReader
    champions: Champions
    moments: Moments
    predictions: PredictionLog
    shadows: Shadows
    metrics: Metrics
    encoding: Encoding


class Versions:
    """One version of each model for one answer, whatever is promoted meanwhile.

    Parameters
    ----------
    champions : Champions
        What may answer.
    unit : str
        Who or what the request is about: its place in the split of every rollout.
    """

    def __init__(self, champions: Champions, unit: str) -> None:
        self._champions = champions
        self._unit = unit
        self._known: dict[str, tuple[Lineup, Assigned, Served | None]] = {}
        self.failed: set[str] = set()
        """The models whose challenger failed: their champions answer instead."""

    def of(self, model: str) -> tuple[Lineup, Assigned, Served | None]:
        """Return who may answer for a model, where the split puts this answer, and who scores."""
        known = self._known.get(model)
        if known is None:
            lineup = self._champions.lineup(model)
            assigned = lineup.assign(self._unit)
            known = self._known[model] = (lineup, assigned, assigned.served)
        return known

    def give_way(self, models: set[str]) -> None:
        """Have the champions of models score instead of their challengers, which failed."""
        self.failed |= models
        for model in models:
            lineup, assigned, _ = self._known[model]
            self._known[model] = (lineup, assigned, lineup.champion)


class Ranked(msgspec.Struct):
    """What one version made of a request's rows; ``scores`` are None where none scored them."""

    model: str
    reader: Reader
    lineup: Lineup
    assigned: Assigned
    served: Served | None
    columns: Columns
    reading: Reading
    problems: list[str]
    scores: Scores | None = None

    @property
    def version(self) -> int | None:
        """The version that scored; None if none did."""
        return None if self.served is None or self.scores is None else self.served.release.version

    @property
    def gives_way(self) -> bool:
        """Whether it is a challenger that failed where a champion could have answered."""
        champion = self.lineup.champion
        tried = self.served is not None and self.served is not champion
        return tried and self.scores is None and champion is not None

    @property
    def reason(self) -> FeilunError:
        """Why there are no scores."""
        if self.served is None:
            return NoModel(
                f"No version of {self.model} is in production.",
                "Train one (feilun train), or give scored.by() a default.",
            )
        return Unavailable(
            f"Version {self.served.release.version} of {self.model} failed.",
            "Roll it back (feilun rollback), or give scored.by() a default.",
        )


async def score(ranked: Ranked, tools: Tools) -> None:
    """Have the version score what was read; that it cannot is a problem of the answer."""
    if ranked.reading.texts:
        vectors = await tools.encoding.encode(ranked.reading.texts)
        if len(vectors) < len(ranked.reading.texts):
            ranked.problems.append(ENCODER_FAILED)
        ranked.reading = ranked.reader.finish(ranked.reading, ranked.columns, vectors)
    if ranked.served is None:
        return
    try:
        ranked.scores = await ranked.served.scorer.score(ranked.reading.matrix)
    except ModelError as error:
        version = str(ranked.served.release.version)
        tools.metrics.add("feilun_model_failures_total", model=ranked.model, version=version)
        _log.warning("Version %s of %s failed: %s", version, ranked.model, error)
        ranked.problems.append(MODEL_FAILED)


class Ranker:
    """One model scores the rows of one capability.

    Parameters
    ----------
    spec : CapabilitySpec
        Its ``model`` is who scores.
    project : Project
        The definitions.
    tools : Tools
        What every capability works with.
    """

    def __init__(self, spec: CapabilitySpec, project: Project, tools: Tools) -> None:
        self.spec = spec
        model = project.models[spec.model]
        self.reader = Reader(spec, model, project.entities)
        self.tools = tools
        self._untrained = untrained_columns(model)

    def read(
        self,
        moment: Moment,
        parameters: Mapping[str, Any],
        options: ReadOptions,
        versions: Versions,
        items: list[Any] | None = None,
    ) -> Ranked:
        """Read the rows for the version that is to score them, or for the fallback without one."""
        model = self.spec.model
        lineup, assigned, served = versions.of(model)
        columns = self._untrained if served is None else served.columns
        reading = self.reader.read(
            moment, parameters, options, columns, model=served is not None, items=items
        )
        problems = [CHALLENGER_FAILED] if model in versions.failed else []
        if served is None:
            problems.append(NO_MODEL)
        return Ranked(model, self.reader, lineup, assigned, served, columns, reading, problems)

    def prediction(
        self,
        ranked: Ranked,
        parameters: Mapping[str, Any],
        *,
        id: str,
        answer: list[Any],
        degraded: list[str],
    ) -> Prediction:
        """Return what is logged of an answer."""
        reading, lineup, assigned = ranked.reading, ranked.lineup, ranked.assigned
        said = ranked.columns.said
        if said != self._untrained.said:
            # What the next version is trained on counts too, though this one does not read it.
            said = (*said, *self._untrained.said)
        request = {name: parameters[name] for name in said}
        if len(reading.keys) < len(asked := self.reader.keys(parameters)):
            for hidden in request.keys() & asked.keys() - reading.keys.keys():
                del request[hidden]
        return Prediction(
            capability=self.spec.name,
            model=ranked.model,
            version=ranked.version or 0,
            as_of=reading.as_of,
            folded_offset=reading.folded_offset,
            keys=reading.keys,
            item=self.spec.item,
            items=reading.items,
            columns=reading.columns,
            vectors=reading.matrix.tobytes(),
            scores=b"" if ranked.scores is None else ranked.scores.tobytes(),
            answer=answer,
            degraded=degraded,
            request_id=id,
            request=request,
            arm=assigned.arm,
            propensity=assigned.propensity,
            rollout=0 if lineup.rollout is None else lineup.rollout.sequence,
            encoders=dict(ranked.columns.encoders),
        )

    def shadow_read(
        self,
        shadow: Served,
        ranked: Ranked,
        prediction: Prediction,
        parameters: Mapping[str, Any],
    ) -> Callable[[], Awaitable[Reading]]:
        """Return how a shadow reads the same items: as the answer, where it has its columns."""

        async def read() -> Reading:
            if shadow.columns == ranked.columns:
                return ranked.reading
            now = ReadOptions(personalised=prediction.personalised)
            items = ranked.reading.items
            with self.tools.reader.snapshot() as snapshot:
                moment = self.tools.moments.at(snapshot, now)
                reading = self.reader.read(
                    moment, parameters, now, shadow.columns, model=True, items=items
                )
            if not reading.texts:
                return reading
            vectors = await self.tools.encoding.encode(reading.texts)
            return self.reader.finish(reading, shadow.columns, vectors)

        return read
