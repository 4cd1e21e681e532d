"""Makes the answers of one capability, with what it asks of other models and capabilities.

Everything that an answer is made of is read at one moment of the store, before anything scores: its
own rows, what its other models read of them, and what the capabilities that it asks read. Then all
of it is scored, each model by one version. Then the functions are called, the asked ones first. If
a challenger fails, all of it is read again, at one new moment, for the version in production.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from feilun.definitions.rows import Scored
from feilun.definitions.specs import AskSpec, CapabilitySpec, Project, ThompsonSpec
from feilun.errors import FeilunError, InputError, NoModel, Unavailable
from feilun.records.record import NOT_PERSONALISED, Prediction
from feilun.records.split import unit_of
from feilun.serving.answering.candidates import answered_items
from feilun.serving.answering.exploring import Evidence, Explorer
from feilun.serving.answering.ranking import Ranked, Ranker, Tools, Versions, score
from feilun.serving.answering.shadow import ShadowCall
from feilun.serving.http.exchange import fitting_id
from feilun.serving.http.parameters import ReadOptions
from feilun.serving.log.predictions import subject_of
from feilun.serving.snapshots.moment import Moment

_log = logging.getLogger(__name__)


class CapabilityError(FeilunError):
    """The capability's own function raised, or returned what has no form in JSON."""

    code = "capability_failed"


class Entry(NamedTuple):
    """What one model did for an answer, as it is logged, and what a shadow of the model needs."""

    ranker: Ranker
    ranked: Ranked
    parameters: Mapping[str, Any]
    prediction: Prediction

    def offer(self, digest: bytes, answered: Prediction, team: str) -> None:
        """Let a shadow score it too, if there is one; ``answered`` is the whole answer's."""
        shadow = self.ranked.lineup.shadow
        if shadow is not None:
            read = self.ranker.shadow_read(shadow, self.ranked, self.prediction, self.parameters)
            subject = subject_of(answered, self.prediction)
            call = ShadowCall(shadow, self.prediction, digest, subject, read, team)
            self.ranker.tools.shadows.offer(call)


class Answer(msgspec.Struct):
    """An answer: what was read for it and, once that is scored, what came of it.

    ``asked`` are the answers of what it asks, by path, or why there are none. ``ranked`` is all
    that is to be scored, also for what it asks. ``entries`` are what is logged of the capability's
    own models, the one that ranks first.
    """

    capability: str
    id: str
    parameters: Mapping[str, Any]
    options: ReadOptions
    versions: Versions
    main: Ranked
    also: list[Ranked]
    asked: dict[str, Answer | FeilunError]
    ranked: list[Ranked]
    result: Any = None
    degraded: list[str] = msgspec.field(default_factory=list)
    entries: list[Entry] = msgspec.field(default_factory=list)

    def all(self) -> list[Answer]:
        """Return it, and the answers that it was made of."""
        asked = [each.all() for each in self.asked.values() if isinstance(each, Answer)]
        return [self, *chain.from_iterable(asked)]


class Answerer:
    """Makes the answers of one capability.

    Parameters
    ----------
    spec : CapabilitySpec
        What it is.
    project : Project
        The definitions.
    tools : Tools
        What every capability works with.
    """

    def __init__(self, spec: CapabilitySpec, project: Project, tools: Tools) -> None:
        self.spec = spec
        self._tools = tools
        self._ranker = Ranker(spec, project, tools)
        self.reader = self._ranker.reader
        alone = replace(spec, candidates=(), fallback=None, reads=(), explore=None)
        self._also = [Ranker(replace(alone, model=each), project, tools) for each in spec.also]
        self._asks = [
            (ask, Answerer(project.capabilities[ask.capability], project, tools))
            for ask in spec.asks
        ]

    async def answer(self, parameters: Mapping[str, Any], options: ReadOptions, id: str) -> Answer:
        """Answer a request whose records are folded.

        Raises
        ------
        InputError
            If its parameters cannot be used.
        NoModel
            If no version is in production and there is no fallback.
        Unavailable
            If the model failed and there is no fallback, or something that the function cannot do
            without.
        CapabilityError
            If the user's function failed.
        """
        versions: Versions | None = None
        while True:
            with self._tools.reader.snapshot() as snapshot:
                moment = self._tools.moments.at(snapshot, options)
                answer = self._begin(moment, parameters, options, id, versions)
            versions = answer.versions
            await self._score(answer)
            gave_way = {ranked.model for ranked in answer.ranked if ranked.gives_way}
            if not gave_way:
                self._finish(answer)
                return answer
            versions.give_way(gave_way)

    def _begin(
        self,
        moment: Moment,
        parameters: Mapping[str, Any],
        options: ReadOptions,
        id: str,
        versions: Versions | None,
    ) -> Answer:
        """Read everything that the answer is made of."""
        if options.personalised and self.reader.wants_none(moment, parameters):
            options = options._replace(personalised=False)
        if versions is None:
            keys = self.reader.keys(parameters) if options.personalised else {}
            versions = Versions(self._tools.champions, unit_of(keys, id))
        if self.spec.fallback is None and versions.of(self.spec.model)[-1] is None:
            raise NoModel(
                f"No version of {self.spec.model} is in production.",
                "Train one (feilun train) or give the capability a fallback.",
            )
        main = self._ranker.read(moment, parameters, options, versions)
        items = main.reading.items
        also = [each.read(moment, parameters, options, versions, items) for each in self._also]
        name, ranked = self.spec.name, [main, *also]
        answer = Answer(name, id, parameters, options, versions, main, also, {}, ranked)
        for ask, answerer in self._asks:
            inner = answer.asked[answerer.spec.path] = self._ask(moment, answer, ask, answerer)
            if isinstance(inner, Answer):
                ranked += inner.ranked
        return answer

    def _ask(
        self, moment: Moment, answer: Answer, ask: AskSpec, answerer: Answerer
    ) -> Answer | FeilunError:
        """Have another capability read for what it is asked, or return why it cannot."""
        said: dict[str, Any] = {}
        for parameter in answerer.spec.parameters:
            value = parameter.default
            if parameter.name == ask.rows:
                value = answer.main.reading.items
            elif parameter.name in ask.same:
                value = answer.parameters[parameter.name]
            said[parameter.name] = copy.copy(value)  # functions may change what they are given
        personalised = answer.options.personalised or not ask.personal
        options = answer.options._replace(personalised=personalised)
        id = fitting_id(f"{answer.id}/{ask.capability}")
        try:
            return answerer._begin(moment, said, options, id, answer.versions)
        except FeilunError as error:
            return self._failed(answerer, id, error)

    def _failed(self, answerer: Answerer, id: str, error: FeilunError) -> FeilunError:
        path = answerer.spec.path
        _log.warning("%s: %s did not answer %s: %s", id, path, self.spec.path, error)
        return error

    async def _score(self, answer: Answer) -> None:
        if len(answer.ranked) == 1:
            await score(answer.main, self._tools)
        else:
            await asyncio.gather(*(score(each, self._tools) for each in answer.ranked))

    def _finish(self, answer: Answer) -> None:
        """Call the functions, those of what is asked first."""
        main = answer.main
        if main.scores is None and main.served is not None and self.spec.fallback is None:
            raise Unavailable(
                f"Version {main.served.release.version} of {self.spec.model} failed, and "
                f"{self.spec.path} has no fallback.",
                "Roll it back (feilun rollback), or give the capability a fallback.",
            )
        for _, answerer in self._asks:
            inner = answer.asked[answerer.spec.path]
            if isinstance(inner, Answer):
                try:
                    answerer._finish(inner)
                except FeilunError as error:
                    failed = self._failed(answerer, inner.id, error)
                    answer.asked[answerer.spec.path] = failed
        explorer = self._explorer(answer)
        answer.result = self._call(answer, explorer)
        answer.degraded = self._degraded(answer)
        answer.entries = self._entries(answer, explorer)

    def _explorer(self, answer: Answer) -> Explorer | None:
        rule, reading = self.spec.explore, answer.main.reading
        if rule is None:
            return None
        evidence = None
        if isinstance(rule, ThompsonSpec):
            evidence = Evidence(rule, reading.items, reading.values)
        return Explorer(rule, f"{self.spec.name}/{answer.id}", evidence)

    def _call(self, answer: Answer, explorer: Explorer | None) -> Any:
        """Hand the scored items to the user's function."""
        reading, scores = answer.main.reading, answer.main.scores
        scored = Scored(
            reading.items,
            self.reader.fallback_scores(reading) if scores is None else scores,
            reading.values,
            fallback=scores is None,
            draws=explorer,
            others={
                each.model: each.reason if each.scores is None else each.scores
                for each in answer.also
            },
            replies={
                path: each.result if isinstance(each, Answer) else each
                for path, each in answer.asked.items()
            },
        )
        try:
            return self.spec.function(scored, **answer.parameters)
        except (InputError, Unavailable):
            raise  # the function's own way to refuse a request, or what it cannot do without
        except Exception as error:  # the user's code may raise anything
            _log.exception("The function of %s failed", self.spec.path)
            raise CapabilityError(
                f"The function of {self.spec.path} raised {type(error).__name__}.",
                "Its traceback is in the gateway's log.",
            ) from error

    def _degraded(self, answer: Answer) -> list[str]:
        """Return in which ways the answer is less than asked for, each once."""
        common = self._common(answer)
        flags = [*common, *answer.main.problems]
        flags += [f"{problem}:{each.model}" for each in answer.also for problem in each.problems]
        for each in (answer.main, *answer.also):
            flags += each.reading.flags
        for ask, answerer in self._asks:
            inner = answer.asked[answerer.spec.path]
            problems = inner.degraded if isinstance(inner, Answer) else ["failed"]
            flags += [f"asked:{ask.capability}:{flag}" for flag in problems if flag not in common]
        return list(dict.fromkeys(flags))

    def _common(self, answer: Answer) -> list[str]:
        """Return the flags of everything that the answer is made of."""
        doubts = self._tools.moments.doubts(answer.main.reading.as_of)
        return [*doubts, *([] if answer.options.personalised else [NOT_PERSONALISED])]

    def _entries(self, answer: Answer, explorer: Explorer | None) -> list[Entry]:
        """Return what is logged of the capability's own models."""
        said, items = answer.parameters, answer.main.reading.items
        shown = answered_items(answer.result, self.spec.item, items)
        own = self._ranker.prediction(
            answer.main, said, id=answer.id, answer=shown, degraded=answer.degraded
        )
        if explorer is not None:
            drawn = explorer.of(shown)
            own = msgspec.structs.replace(
                own,
                exploration=str(self.spec.explore),
                list_propensity=drawn.list_propensity,
                item_propensities=drawn.item_propensities,
            )
        entries = [Entry(self._ranker, answer.main, said, own)]
        for ranker, ranked in zip(self._also, answer.also, strict=True):
            prediction = ranker.prediction(
                ranked,
                said,
                id=fitting_id(f"{answer.id}:{ranked.model}"),
                answer=shown,
                degraded=[*self._common(answer), *ranked.problems, *ranked.reading.flags],
            )
            entries.append(Entry(ranker, ranked, said, prediction))
        return entries
