"""``POST /api/events``: what happened comes in."""

from __future__ import annotations

import msgspec

from feilun.events.collector import PAGES, Collector, ItemAnswer
from feilun.events.committer import Committer
from feilun.serving.http.exchange import Request, Response
from feilun.serving.log.predictions import of_team

SOURCE = "api"
"""Who sent a body that does not say."""


class EventsReply(msgspec.Struct):
    """What became of each event, in the order of the body; what is answered so is durable."""

    events: list[ItemAnswer]
    request_id: str


class _Encoded(msgspec.Struct):
    """An `EventsReply` whose answers are JSON already."""

    events: msgspec.Raw
    request_id: str


class Collect:
    """The route of the collector: 200 as soon as the body could be read, an answer per event."""

    path = "/api/events"

    def __init__(self, collector: Collector, committer: Committer) -> None:
        self._collector = collector
        self._committer = committer

    async def answer(self, request: Request) -> Response:
        """Take in one event or a batch, durably."""
        source = PAGES if request.page else of_team(request.team, SOURCE)
        answers = await self._collector.collect(self._committer, source, request.body)
        return Response(msgspec.json.encode(_Encoded(msgspec.Raw(answers), request.id)))
