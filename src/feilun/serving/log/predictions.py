"""Keeps every answer in the log, durably, before its caller sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from feilun.errors import Conflict
from feilun.ports.event_log import Appended, EventLog, Named
from feilun.records.codec import decode_prediction, encode_prediction
from feilun.records.record import PREDICTION_SCHEMA, SHADOW_SCHEMA, Prediction, Record

SOURCE = "gateway"
SHADOW_SOURCE = "gateway/shadow"
"""A shadow's record has the id of the request that it looked at, and so a source of its own."""

Commit = Callable[[Sequence[Record]], Awaitable[Sequence[Appended]]]
"""Appends records durably, together with those of other requests."""


class PredictionLog:
    """Writes predictions as records of the event log.

    Parameters
    ----------
    commit : callable
        The committer's way in; its answers are durable.
    log : EventLog
        Where they go: asked for what a request was answered before.
    """

    def __init__(self, commit: Commit, log: EventLog) -> None:
        self._commit = commit
        self._log = log

    async def keep(
        self,
        prediction: Prediction,
        digest: bytes,
        others: Sequence[Prediction] = (),
        team: str = "",
    ) -> bytes:
        """Keep a prediction. A second one of the same request is not kept: the first counts.

        Returns
        -------
        bytes
            The first one's reply, if this is a second one; empty if it is not, or nothing was kept.

        Parameters
        ----------
        prediction : Prediction
            What was answered.
        digest : bytes
            16 bytes of BLAKE2b over what was asked.
        others : sequence of Prediction
            What other models and capabilities said for it, kept in the same transaction. Their ids
            follow from the request's, so a second one of each is not kept either; they are about
            whom it is about, and are erased with it.
        team : str
            Who asked: a team's request ids are its own, whatever ids others use.

        Raises
        ------
        Conflict
            If another request came under the same id.
        StoreFull
            If the log cannot take it.
        """
        source = of_team(team, SOURCE)
        records = [
            _record(each, digest, subject_of(prediction, each), PREDICTION_SCHEMA, source)
            for each in (prediction, *others)
        ]
        answer, *_ = await self._commit(records)
        if answer.status == "conflict":
            raise Conflict(
                f"The request id {prediction.request_id!r} came before with another request.",
                "Give each request an id of its own; repeat one only to retry the same request.",
            )
        if answer.status != "duplicate":
            return b""
        return await self.reply_at(answer.offset)

    def find(self, request_id: str, time: int, team: str = "") -> Named | None:
        """Return what is kept of a request of a team on the day of ``time`` (µs), if anything."""
        return self._log.find(of_team(team, SOURCE), request_id, time)

    async def reply_at(self, offset: int) -> bytes:
        """Return the reply of the prediction at an offset; empty if none was kept."""
        # A thread: a batch of the log is decoded to find it.
        found = await asyncio.to_thread(self._log.read, offset, 1)
        first = next((record for place, record in found if place == offset), None)
        return b"" if first is None else decode_prediction(first.body).reply

    async def keep_shadow(
        self, prediction: Prediction, digest: bytes, subject: str, team: str = ""
    ) -> None:
        """Keep what a shadow scored, under its own schema; a second one of a request is not kept.

        ``subject`` is that of the request.

        Raises
        ------
        StoreFull, Unavailable
            If the log cannot take it.
        """
        source = of_team(team, SHADOW_SOURCE)
        await self._commit([_record(prediction, digest, subject, SHADOW_SCHEMA, source)])


def of_team(team: str, source: str) -> str:
    """Return the source under which the log keeps what a team sends; ``team`` may be empty."""
    return f"{team}/{source}" if team else source


def _record(
    prediction: Prediction, digest: bytes, subject: str, schema: str, source: str
) -> Record:
    return Record(
        schema=schema,
        source=source,
        id=prediction.request_id,
        time=prediction.as_of,
        received=prediction.as_of,
        client_time=prediction.as_of,
        available=prediction.as_of,
        subject=subject,
        digest=digest,
        body=encode_prediction(prediction),
    )


def subject_of(answered: Prediction, part: Prediction) -> str:
    """Return whom a part of an answer is about, as ``name=value``; empty if nobody.

    It is the first key of the answer itself, or of the part where the answer has none.
    """
    keys = answered.keys or part.keys
    return next((f"{name}={value}" for name, value in keys.items()), "")
