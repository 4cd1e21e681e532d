"""One gateway process, put together: from ports to an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feilun.clock import Clock
from feilun.definitions.specs import Project
from feilun.errors import ConfigError
from feilun.events.collector import BODY_LIMIT, Collector
from feilun.features.online import OnlineReader
from feilun.ports.encoder import NO_ENCODERS, Encoders
from feilun.ports.event_log import EventLog
from feilun.ports.online_store import OnlineStore
from feilun.ports.releases import ReleaseHistory
from feilun.ports.scorer import ScorerLoader
from feilun.ports.skew_store import SkewStore
from feilun.ports.teams import TeamStore
from feilun.ports.turn_store import TurnStore
from feilun.serving.access.guard import ADMIN, OPEN, TEAMS, Guard, scoped
from feilun.serving.access.keyring import Keyring
from feilun.serving.access.quota import Quota
from feilun.serving.access.usage import Meter
from feilun.serving.answering.batch import Batch
from feilun.serving.answering.capability import Capability
from feilun.serving.answering.ranking import Tools
from feilun.serving.answering.shadow import Shadows
from feilun.serving.answering.views import View
from feilun.serving.app import Gateway, Route
from feilun.serving.description.routes import Description
from feilun.serving.health import METRICS, Health
from feilun.serving.http.admission import Admission
from feilun.serving.http.pages import TRACKER_PATH, TrackerFile
from feilun.serving.log.collect import Collect
from feilun.serving.log.committing import WatchedCommitter
from feilun.serving.log.predictions import PredictionLog
from feilun.serving.metrics import Metrics
from feilun.serving.scoring.champion import Champions, stop
from feilun.serving.scoring.encoding import Encoding
from feilun.serving.snapshots.freshness import Freshness
from feilun.serving.snapshots.moment import ClockMode, Moments
from feilun.serving.snapshots.turn import TurnSnapshots

EVENTS_SCOPE = "events"
"""The scope of teams that may send events; no capability and no view can have this name."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""The names of this machine to itself."""


@dataclass(frozen=True)
class GatewayParts:
    """What one gateway process is made of. Opened after the process was spawned.

    Attributes
    ----------
    project : Project
        What is served.
    log, store, releases, turns, skew, teams
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
    token : str
        This machine's own key, for everything.
    keys_required : bool
        Whether a key is asked for even before the first team.
    quota : Quota
        Counts what teams do, in all workers.
    hosts : frozenset of str
        The host names under which it answers, lower-case, without port.
    origins : frozenset of str
        The origins of the web pages that may send events.
    encoders : Encoders
        Encode texts.
    """

    project: Project
    log: EventLog
    store: OnlineStore
    releases: ReleaseHistory
    turns: TurnStore
    skew: SkewStore
    teams: TeamStore
    loaders: Mapping[str, ScorerLoader]
    bundles: Path
    clock: Clock
    clock_mode: ClockMode
    worker: str
    token: str
    keys_required: bool
    quota: Quota
    hosts: frozenset[str] = LOOPBACK
    origins: frozenset[str] = frozenset()
    encoders: Encoders = NO_ENCODERS


def make_app(parts: GatewayParts) -> Gateway:
    """Return the gateway as an ASGI application; it closes its stores when it stops.

    Raises
    ------
    ConfigError
        If two things of the project would answer at one path.
    """
    metrics = Metrics(METRICS, parts.worker)
    snapshots = TurnSnapshots(parts.store)
    freshness = Freshness(parts.log, snapshots)
    moments = Moments(snapshots, parts.clock, parts.clock_mode, freshness)
    champions = Champions(
        project=parts.project,
        releases=parts.releases,
        loaders=parts.loaders,
        bundles=parts.bundles,
        clock=parts.clock,
        worker=parts.worker,
        encoders=parts.encoders,
    )
    keyring = Keyring(parts.teams, required=parts.keys_required)
    meter = Meter(parts.teams, parts.clock, metrics)
    guard = Guard(
        keyring=keyring, quota=parts.quota, meter=meter, clock=parts.clock, token=parts.token
    )
    admission = Admission()
    committer = WatchedCommitter(parts.log)
    reader = OnlineReader(parts.project, snapshots)
    predictions = PredictionLog(committer.commit, parts.log)
    shadows = Shadows(predictions, metrics)
    encoding = Encoding(parts.encoders, metrics)
    tools = Tools(reader, champions, moments, predictions, shadows, metrics, encoding)
    capabilities = [
        Capability(spec, parts.project, tools) for spec in parts.project.capabilities.values()
    ]
    views = [View(spec, reader, moments) for spec in parts.project.views.values()]
    health = Health(
        project=parts.project,
        log=parts.log,
        moments=moments,
        reader=reader,
        freshness=freshness,
        champions=champions,
        keyring=keyring,
        quota=parts.quota,
        turns=parts.turns,
        skew=parts.skew,
        metrics=metrics,
        clock=parts.clock,
        mode=parts.clock_mode,
        worker=parts.worker,
        log_problem=committer.problem,
        encoder_problem=encoding.problem,
        admission=admission,
    )
    collector = Collector(parts.project, parts.log, parts.clock, parts.clock_mode)
    collect = Collect(collector, committer)
    routes = _routes(parts, collect, capabilities, views, health, keyring=keyring, guard=guard)
    lifetime = _Lifetime(
        parts,
        champions,
        keyring,
        meter,
        shadows,
        committer=committer,
        admission=admission,
        encoding=encoding,
        freshness=freshness,
    )
    return Gateway(
        routes,
        hosts=parts.hosts,
        origins=parts.origins,
        guard=guard,
        admission=admission,
        meter=meter,
        metrics=metrics,
        clock=parts.clock,
        start=lifetime.start,
        stop=lifetime.stop,
    )


def _routes(
    parts: GatewayParts,
    collect: Collect,
    capabilities: Sequence[Capability],
    views: Sequence[View],
    health: Health,
    *,
    keyring: Keyring,
    guard: Guard,
) -> dict[str, Route]:
    """Return the whole table: what is not in it is not there."""
    routes: dict[str, Route] = {}
    description = Description(parts.project, parts.clock_mode, keyring, routes)
    table: list[tuple[str, Route]] = [
        ("/health", Route({"GET": health.health}, OPEN)),
        ("/ready", Route({"GET": health.ready}, OPEN)),
        ("/metrics", Route({"GET": health.metrics}, ADMIN)),
        ("/status", Route({"GET": health.status}, ADMIN)),
        ("/openapi.json", Route({"GET": description.openapi}, TEAMS)),
        ("/docs", Route({"GET": description.docs}, TEAMS)),
        (TRACKER_PATH, Route({"GET": TrackerFile().answer}, OPEN, pages=True)),
        (
            collect.path,
            Route(
                {"POST": collect.answer},
                scoped(EVENTS_SCOPE),
                BODY_LIMIT,
                pages=True,
                priority="second",  # whoever sends events keeps them until they are stored
            ),
        ),
        *(
            (
                c.spec.path,
                Route({"GET": c.answer, "POST": c.answer}, scoped(c.spec.name), priority="first"),
            )
            for c in capabilities
        ),
        *(
            (batch.path, Route({"POST": batch.answer}, scoped(batch.scope), priority="third"))
            for batch in (Batch(capability, guard.spend) for capability in capabilities)
        ),
        *(
            (view.path, Route({"GET": view.answer}, scoped(view.spec.name), priority="second"))
            for view in views
        ),
    ]
    for path, route in table:
        if path in routes:
            raise ConfigError(
                f"Two things would answer at {path}.", "Rename the capability or the view."
            )
        routes[path] = route
    return routes


class _Lifetime:
    """What runs beside the requests: releases and keys are followed, usage stored; shadows."""

    def __init__(
        self,
        parts: GatewayParts,
        champions: Champions,
        keyring: Keyring,
        meter: Meter,
        shadows: Shadows,
        *,
        committer: WatchedCommitter,
        admission: Admission,
        encoding: Encoding,
        freshness: Freshness,
    ) -> None:
        self._parts = parts
        self._encoding = encoding
        self._freshness = freshness
        self._shadows = shadows
        self._committer = committer
        self._admission = admission
        self._champions = champions
        self._keyring = keyring
        self._meter = meter
        self._following: list[asyncio.Task[None]] = []
        self._metering: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what is in production, whose keys are valid and what is fresh; then follow it.

        What cannot be read now is looked at again while it follows.
        """
        await asyncio.to_thread(self._champions.look, self._champions.refresh)
        await asyncio.to_thread(self._keyring.look)
        await self._freshness.begin()
        self._following = [
            asyncio.create_task(self._champions.follow()),
            asyncio.create_task(self._keyring.follow()),
            asyncio.create_task(self._admission.follow()),
            asyncio.create_task(self._freshness.follow()),
        ]
        self._metering = asyncio.create_task(self._meter.follow())
        self._shadows.start()

    async def stop(self) -> None:
        """Stop following, store what was used, and close what was opened for this process."""
        for task in self._following:
            await stop(task)
        if self._metering is not None:
            self._meter.stop()
            await self._metering
        await self._shadows.stop()
        await self._encoding.stop()
        await self._committer.close()
        self._parts.teams.close()
        self._parts.store.close()
        self._parts.log.close()
