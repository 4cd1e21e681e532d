"""One gateway process, put together: from ports to an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec

from feilun.clock import Clock
from feilun.definitions.specs import Project
from feilun.errors import ConfigError
from feilun.events.collector import BODY_LIMIT, Collector
from feilun.features.online import OnlineReader
from feilun.ports.event_log import EventLog
from feilun.ports.online_store import OnlineStore
from feilun.ports.releases import ReleaseHistory
from feilun.ports.scorer import ScorerLoader
from feilun.ports.skew_store import SkewStore
from feilun.ports.turn_store import TurnStore
from feilun.serving.app import Gateway, Route
from feilun.serving.batch import Batch
from feilun.serving.capability import Capability, Tools
from feilun.serving.champion import Champions, stop
from feilun.serving.collect import Collect
from feilun.serving.committing import WatchedCommitter
from feilun.serving.docs_page import CONTENT_SECURITY_POLICY, render
from feilun.serving.health import METRICS, Health
from feilun.serving.http import Request, Response
from feilun.serving.metrics import Metrics
from feilun.serving.moment import ClockMode, Moments
from feilun.serving.openapi import describe
from feilun.serving.pages import TRACKER_PATH, TrackerFile
from feilun.serving.predictions import PredictionLog
from feilun.serving.shadow import Shadows
from feilun.serving.views import View

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""The names of this machine to itself."""


@dataclass(frozen=True)
class GatewayParts:
    """What one gateway process is made of. Opened after the process was spawned.

    Attributes
    ----------
    project : Project
        What is served.
    log, store, releases, turns, skew
        The ports.
    loaders : mapping
        By model format, what loads it.
    bundles : Path
        The folder of bundles.
    clock : Clock
        The time of reads and receipts.
    clock_mode : {"wall", "request"}
        ``request``: the caller gives the time of each read, as a replay does.
    worker : str
        This process's name, unlike that of any other.
    hosts : frozenset of str
        The host names under which it answers, lower-case, without port.
    origins : frozenset of str
        The origins of the web pages that may send events.
    """

    project: Project
    log: EventLog
    store: OnlineStore
    releases: ReleaseHistory
    turns: TurnStore
    skew: SkewStore
    loaders: Mapping[str, ScorerLoader]
    bundles: Path
    clock: Clock
    clock_mode: ClockMode
    worker: str
    hosts: frozenset[str] = LOOPBACK
    origins: frozenset[str] = frozenset()


def make_app(parts: GatewayParts) -> Gateway:
    """Return the gateway as an ASGI application; it closes ``log`` and ``store`` when it stops.

    Raises
    ------
    ConfigError
        If two things of the project would answer at one path.
    """
    metrics = Metrics(METRICS, parts.worker)
    moments = Moments(parts.store, parts.clock, parts.clock_mode)
    champions = Champions(
        project=parts.project,
        releases=parts.releases,
        loaders=parts.loaders,
        bundles=parts.bundles,
        clock=parts.clock,
        worker=parts.worker,
    )
    committer = WatchedCommitter(parts.log)
    reader = OnlineReader(parts.project, parts.store)
    predictions = PredictionLog(committer.commit, parts.log)
    shadows = Shadows(predictions, metrics)
    tools = Tools(reader, champions, moments, predictions, shadows, metrics)
    capabilities = [
        Capability(spec, parts.project, tools) for spec in parts.project.capabilities.values()
    ]
    views = [View(spec, reader, moments) for spec in parts.project.views.values()]
    health = Health(
        project=parts.project,
        log=parts.log,
        moments=moments,
        champions=champions,
        turns=parts.turns,
        skew=parts.skew,
        metrics=metrics,
        clock=parts.clock,
        mode=parts.clock_mode,
        worker=parts.worker,
        log_problem=committer.problem,
    )
    collector = Collector(parts.project, parts.log, parts.clock, parts.clock_mode)
    collect = Collect(collector, committer)
    routes = _routes(parts.project, collect, capabilities, views, health)
    lifetime = _Lifetime(parts, champions, shadows, committer)
    return Gateway(
        routes,
        hosts=parts.hosts,
        origins=parts.origins,
        metrics=metrics,
        clock=parts.clock,
        start=lifetime.start,
        stop=lifetime.stop,
    )


def _routes(
    project: Project,
    collect: Collect,
    capabilities: Sequence[Capability],
    views: Sequence[View],
    health: Health,
) -> dict[str, Route]:
    """Return the whole table: what is not in it is not there."""
    description = describe(project, version("feilun"))
    encoded = msgspec.json.encode(description)

    async def openapi(_: Request) -> Response:
        return Response(encoded)

    async def docs(request: Request) -> Response:
        page = render(description, f"http://{request.host}")
        policy = ((b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),)
        return Response(page.encode(), content_type=b"text/html; charset=utf-8", headers=policy)

    table: list[tuple[str, Route]] = [
        ("/health", Route({"GET": health.health})),
        ("/ready", Route({"GET": health.ready})),
        ("/metrics", Route({"GET": health.metrics})),
        ("/status", Route({"GET": health.status})),
        ("/openapi.json", Route({"GET": openapi})),
        ("/docs", Route({"GET": docs})),
        (TRACKER_PATH, Route({"GET": TrackerFile().answer}, pages=True)),
        (collect.path, Route({"POST": collect.answer}, BODY_LIMIT, pages=True)),
        *((c.spec.path, Route({"GET": c.answer, "POST": c.answer})) for c in capabilities),
        *((batch.path, Route({"POST": batch.answer})) for batch in map(Batch, capabilities)),
        *((view.path, Route({"GET": view.answer})) for view in views),
    ]
    routes: dict[str, Route] = {}
    for path, route in table:
        if path in routes:
            raise ConfigError(
                f"Two things would answer at {path}.", "Rename the capability or the view."
            )
        routes[path] = route
    return routes


class _Lifetime:
    """What runs beside the requests: the following of releases, and the shadows."""

    def __init__(
        self,
        parts: GatewayParts,
        champions: Champions,
        shadows: Shadows,
        committer: WatchedCommitter,
    ) -> None:
        self._parts = parts
        self._shadows = shadows
        self._committer = committer
        self._champions = champions
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what is in production, then keep following it."""
        await asyncio.to_thread(self._champions.refresh)
        self._following = asyncio.create_task(self._champions.follow())
        self._shadows.start()

    async def stop(self) -> None:
        """Stop following and close what was opened for this process."""
        if self._following is not None:
            await stop(self._following)
        await self._shadows.stop()
        await self._committer.close()
        self._parts.store.close()
        self._parts.log.close()
