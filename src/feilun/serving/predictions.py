"""Keeps every answer in the log, durably, before its caller sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from feilun.errors import Conflict
from feilun.ports.event_log import Appended
from feilun.records.codec import encode_prediction
from feilun.records.record import PREDICTION_SCHEMA, Prediction, Record

SOURCE = "gateway"

Commit = Callable[[Sequence[Record]], Awaitable[Sequence[Appended]]]
"""Appends records durably, together with those of other requests."""


class PredictionLog:
    """Writes predictions as records of the event log.

    Parameters
    ----------
    commit : callable
        The committer's way in; its answers are durable.
    """

    def __init__(self, commit: Commit) -> None:
        self._commit = commit

    async def keep(self, prediction: Prediction, digest: bytes) -> None:
        """Keep a prediction. A second one of the same request is not kept: the first counts.

        Parameters
        ----------
        prediction : Prediction
            What was answered.
        digest : bytes
            16 bytes of BLAKE2b over what was asked.

        Raises
        ------
        Conflict
            If another request came under the same id.
        StoreFull
            If the log cannot take it.
        """
        record = Record(
            schema=PREDICTION_SCHEMA,
            source=SOURCE,
            id=prediction.request_id,
            time=prediction.as_of,
            received=prediction.as_of,
            client_time=prediction.as_of,
            available=prediction.as_of,
            subject=subject_of(prediction),
            digest=digest,
            body=encode_prediction(prediction),
        )
        (answer,) = await self._commit([record])
        if answer.status == "conflict":
            raise Conflict(
                f"The request id {prediction.request_id!r} came before with another request.",
                "Give each request an id of its own; repeat one only to retry the same request.",
            )


def subject_of(prediction: Prediction) -> str:
    """Return whom a prediction is about: its first key, as ``name=value``; empty if nobody."""
    return next((f"{name}={value}" for name, value in prediction.keys.items()), "")
