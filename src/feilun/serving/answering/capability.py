"""One capability: request → candidates → features → scores → the user's function → reply.

Every answer is logged durably, with the vectors that were scored, before the caller sees it: what
was served is what the next version is trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from feilun.definitions.specs import CapabilitySpec, Project
from feilun.ports.event_log import Named
from feilun.records.record import Prediction
from feilun.serving.answering.answerer import Answer, Answerer, CapabilityError
from feilun.serving.answering.ranking import Tools
from feilun.serving.answering.views import plain
from feilun.serving.http.exchange import Request, Response
from feilun.serving.http.parameters import Parameters, ReadOptions

REPLAYED = ((b"idempotent-replayed", b"true"),)
"""The header of a reply that was given before."""

_deterministic = msgspec.msgpack.Encoder(order="deterministic")


class CapabilityReply(msgspec.Struct):
    """The answer, with what it was made from. ``version`` is null where no model scored."""

    result: Any
    request_id: str
    model: str
    version: int | None
    as_of: int
    folded_offset: int
    degraded: list[str]


class Capability:
    """The route of one capability."""

    def __init__(self, spec: CapabilitySpec, project: Project, tools: Tools) -> None:
        self.spec = spec
        self._tools = tools
        self._answerer = Answerer(spec, project, tools)
        self._subject = self._answerer.reader.subject
        entities = {
            p.name: project.entities[p.name] for p in spec.parameters if p.name in project.entities
        }
        self.is_personal = self._subject is not None
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
        if request.named and (kept := self._kept(request, options)):
            if kept.digest == self._digest(parameters, options):
                if first := await self._tools.predictions.reply_at(kept.offset):
                    return Response(first, headers=REPLAYED, used=())
            elif kept.digest == self._digest(parameters, options._replace(personalised=False)):
                # Its subject had opted out when it first came. A retry is answered as then.
                options = options._replace(personalised=False)
        await self._tools.moments.reach(options)
        answer = await self._answerer.answer(parameters, options, request.id)
        reading, options = answer.main.reading, answer.options
        reply = CapabilityReply(
            result=answer.result,
            request_id=request.id,
            model=self.spec.model,
            version=answer.main.version,
            as_of=reading.as_of,
            folded_offset=reading.folded_offset,
            degraded=answer.degraded,
        )
        body = self._encode(reply)
        answers = answer.all()
        entries = [entry for each in answers for entry in each.entries]
        own, *others = [entry.prediction for entry in entries]
        own = msgspec.structs.replace(own, reply=body if options.personalised else b"")
        digest = self._digest(parameters, options)
        first = await self._tools.predictions.keep(own, digest, others, request.team)
        if first:
            return Response(first, headers=REPLAYED, used=())
        self._count(answers)
        for entry in entries:
            entry.offer(digest, own, request.team)
        return Response(body, used=_used(own, others))

    def _kept(self, request: Request, options: ReadOptions) -> Named | None:
        """Return what is kept under a request's id, if it has come before.

        The log has the last word: what is not found here, such as a request that is on its way, is
        a duplicate when it is kept.
        """
        time = self._tools.moments.around(options)
        return self._tools.predictions.find(request.id, time, request.team)

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
        if not options.personalised and self._subject is not None:
            del said[self._subject]  # a digest of few possible values tells the value
        asked = _deterministic.encode((self.spec.name, said, options.as_of))
        return hashlib.blake2b(asked, digest_size=16).digest()

    def _count(self, answers: Sequence[Answer]) -> None:
        metrics = self._tools.metrics
        for each in answers:
            for *_, prediction in each.entries:
                metrics.add(
                    "feilun_predictions_total",
                    capability=each.capability,
                    model=prediction.model,
                    version=str(prediction.version),
                )
            for flag in each.degraded:
                metrics.add("feilun_degraded_total", capability=each.capability, flag=flag)


def _used(own: Prediction, others: Sequence[Prediction]) -> tuple[tuple[str, int], ...]:
    """Return what a team is charged for: the answer, and each version that scored for it besides.

    An answer that no version scored is one all the same, of no model.
    """
    answer = (own.model, own.version) if own.version else ("", 0)
    return (answer, *((each.model, each.version) for each in others if each.version))
