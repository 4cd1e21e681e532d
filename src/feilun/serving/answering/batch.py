"""Many requests of one capability in one body: each is answered, and logged, for itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from feilun.errors import FeilunError, InputError, TooLarge
from feilun.serving.answering.capability import Capability
from feilun.serving.http.caller import Caller
from feilun.serving.http.exchange import InternalError, Request, Response, error_body, fitting_id

MAX_REQUESTS = 100
"""The most requests in one body."""
AT_ONCE = 10
"""How many of them are under way together: they share commits, and others get their turn."""

_log = logging.getLogger(__name__)
_bodies = msgspec.json.Decoder(list[msgspec.Raw])


class Batch:
    """The route ``POST /api/<capability>/batch``.

    Parameters
    ----------
    capability : Capability
        What answers each request.
    spend : callable
        Counts another request of a caller, or raises TooMany. The batch as a whole was counted
        as its first.
    """

    def __init__(self, capability: Capability, spend: Callable[[Caller], None]) -> None:
        self.path = f"{capability.spec.path}/batch"
        self.scope = capability.spec.name
        self._capability = capability
        self._spend = spend

    async def answer(self, request: Request) -> Response:
        """Answer a JSON array of requests with an array in the same order.

        One that fails costs the others nothing. The id of each is the batch's with its place
        (``<id>.0``), so that a batch that comes again gets the very answers that it got.

        Raises
        ------
        InputError
            If the body is no array.
        TooLarge
            If it has more than ``MAX_REQUESTS``.
        """
        bodies = _read(request.body)
        slots = asyncio.Semaphore(AT_ONCE)

        used: list[tuple[str, int]] = []

        async def one(place: int, body: msgspec.Raw) -> dict[str, Any]:
            id = fitting_id(f"{request.id}.{place}")
            async with slots:
                alone = msgspec.structs.replace(request, body=bytes(body), id=id)
                return await self._one(alone, used, first=place == 0)

        replies = await asyncio.gather(*(one(*numbered) for numbered in enumerate(bodies)))
        body = msgspec.json.encode({"replies": replies, "request_id": request.id})
        return Response(body, used=tuple(used))

    async def _one(
        self, request: Request, used: list[tuple[str, int]], *, first: bool
    ) -> dict[str, Any]:
        problem: FeilunError
        try:
            if not first:
                self._spend(request.caller)
            response = await self._capability.answer(request)
            used += response.used
        except FeilunError as error:
            problem = error
        except Exception:  # a defect: it costs one answer, never the others
            _log.exception("%s of %s failed", request.id, self.path)
            problem = InternalError()
        else:
            return {"status": response.status, "reply": msgspec.Raw(response.body)}
        return {"status": problem.status, **error_body(problem, request.id)}


def _read(body: bytes) -> list[msgspec.Raw]:
    try:
        bodies = _bodies.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f"The body is no JSON array of requests: {error}.", "Send [{…}, {…}]."
        ) from error
    except RecursionError as error:
        raise TooLarge("The body is nested too deeply.", "Send flat objects.") from error
    if len(bodies) > MAX_REQUESTS:
        raise TooLarge(f"{len(bodies)} requests in one body.", f"Send at most {MAX_REQUESTS}.")
    return bodies
