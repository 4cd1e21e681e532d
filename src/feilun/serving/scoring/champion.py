"""Follows what is in production, and what is tried beside it, and holds it ready.

A new version is loaded and warmed beside the old one and takes its place between two requests. One
that cannot be loaded is refused with its reason, and the old one goes on serving. What needs no
loading, such as the end of a rollout, never waits for what does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from feilun.clock import Clock
from feilun.definitions.compile_requests import scalar_type
from feilun.definitions.specs import (
    CapabilitySpec,
    ModelSpec,
    Project,
    Readable,
    RequestSpec,
    features_of,
    inputs_of,
)
from feilun.errors import FeilunError, ModelError
from feilun.models.bundle import Bundle, read_bundle, resolve_columns
from feilun.models.training import loader_of
from feilun.ports.encoder import NO_ENCODERS, EncoderLoading, Encoders
from feilun.ports.releases import Release, ReleaseHistory, Rollout, going_on
from feilun.ports.scorer import ScorerLoader
from feilun.records.record import RECOMPUTE
from feilun.serving.http.parameters import keys_of
from feilun.serving.scoring.guarded_scorer import GuardedScorer
from feilun.serving.scoring.lineup import Columns, Lineup, Served

POLL_SECONDS = 0.05
ACKNOWLEDGE_SECONDS = 1.0
"""How often a worker says that it still serves what it serves."""
RECOVER_SECONDS = 0.5
"""How soon it looks again where the releases could not be read: the kill switch waits for it."""
WARM_SECONDS = 5.0
"""How long a new model may take to score its first rows."""
ENCODER_SECONDS = 9.0
"""How long a new version waits for its encoder to be loaded; a promotion waits a little longer."""
RETRY_SECONDS = 5.0
"""How often a refused bundle is tried again: its folder may have been restored."""

NOTHING = 0
"""The sequence that a worker acknowledges before the first release."""

_Arm = Literal["champion", "challenger"]
_NOBODY = Lineup()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """A version that could not be loaded, why, and when (s, monotonic) it was tried."""

    release: Release | Rollout
    reason: str
    tried: float


def untrained_columns(model: ModelSpec) -> Columns:
    """Return the columns that are logged while no version of ``model`` exists yet.

    Nobody has given codes to text by then: such vectors are marked, so that training computes
    them again.
    """
    texts = {column.address: () for column in model.columns if column.dtype == "str"}
    digest = RECOMPUTE if texts else model.columns_digest
    return Columns(model.columns, model.request, texts, digest)


class Champions:
    """What this worker serves of each model.

    Parameters
    ----------
    project : Project
        Its models are followed.
    releases : ReleaseHistory
        Polled for what is in production; told what is served.
    loaders : mapping
        By format, what loads it.
    bundles : Path
        The folder of bundles.
    clock : Clock
        Stamps the acknowledgements.
    worker : str
        This worker's name.
    encoders : Encoders
        Asked to have ready what a new version reads texts by.
    """

    def __init__(
        self,
        *,
        project: Project,
        releases: ReleaseHistory,
        loaders: Mapping[str, ScorerLoader],
        bundles: Path,
        clock: Clock,
        worker: str,
        encoders: Encoders = NO_ENCODERS,
    ) -> None:
        self._project = project
        self._releases = releases
        self._loaders = loaders
        self._bundles = bundles
        self._clock = clock
        self._worker = worker
        self._encoders = encoders
        self._loaded: dict[str, dict[str, Served]] = {model: {} for model in project.models}
        self._lineups: dict[str, Lineup] = {}
        self._refused: dict[tuple[str, str], Refusal] = {}
        self._acknowledged: dict[str, tuple[tuple[int, int], float]] = {}
        self._heeding = threading.Lock()
        self._problem = ""

    def get(self, model: str) -> Served | None:
        """Return the version in production; None before the first."""
        return self.lineup(model).champion

    def lineup(self, model: str) -> Lineup:
        """Return who may answer for ``model`` now."""
        return self._lineups.get(model, _NOBODY)

    def refusal(self, model: str, arm: _Arm = "champion") -> Refusal | None:
        """Return why the newest version of an arm is not served, if it is not."""
        return self._refused.get((model, arm))

    async def follow(self) -> None:
        """Heed and refresh for ever, each in a thread: loading holds up no request and no stop."""
        await asyncio.gather(self._repeat(self.heed), self._repeat(self.refresh))

    async def _repeat(self, look: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="releases")
        try:
            while True:
                followed = await loop.run_in_executor(thread, self.look, look)
                await asyncio.sleep(POLL_SECONDS if followed else RECOVER_SECONDS)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def look(self, how: Callable[[], None]) -> bool:
        """Refresh or heed; False where the releases cannot be read, and what is served stays."""
        try:
            how()
        except FeilunError as error:
            if str(error) != self._problem:
                _log.warning("The releases cannot be followed for now: %s", error)
            self._problem = str(error)
            return False
        self._problem = ""
        return True

    def problem(self) -> str:
        """Return why the releases cannot be followed now; empty if they can."""
        return self._problem and f"The releases cannot be followed: {self._problem}"

    def refresh(self) -> None:
        """Load what is new of what is in production and beside it, heed it, let go of the rest."""
        for model in self._project.models:
            newest = self._newest(model)
            self._make_ready(model, "champion", newest.release)
            self._make_ready(model, "challenger", newest.going_on)
        self.heed()
        for model, loaded in self._loaded.items():
            lineup = self.lineup(model)
            wanted = {each.release.bundle for each in (lineup.champion, lineup.challenger) if each}
            # Nobody but this loads, so what was loaded just now is wanted or out of date.
            for bundle in loaded.keys() - wanted:
                del loaded[bundle]

    def heed(self) -> None:
        """Act on the newest release and rollout of each model with what is loaded; acknowledge."""
        with self._heeding:
            for model in self._project.models:
                newest = self._newest(model)
                self._lineups[model] = self._line_up(model, newest)
                self._acknowledge(model, newest)

    def _newest(self, model: str) -> _Newest:
        rollout = self._releases.rollout(model)  # first: a release that comes now ends it
        return _Newest(self._releases.current(model), rollout)

    def _line_up(self, model: str, newest: _Newest) -> Lineup:
        loaded, champion = self._loaded[model], self.lineup(model).champion
        release, rollout = newest.release, newest.going_on
        if release is not None:
            if (ready := loaded.get(release.bundle)) is not None:
                champion = replace(ready, release=release)
            elif not self._is_refused(model, release):
                # Soon it is loaded. A challenger is not compared with what was there before it.
                return Lineup(champion)
        if rollout is not None and (ready := loaded.get(rollout.bundle)) is not None:
            return Lineup(champion, replace(ready, release=rollout), rollout)
        return Lineup(champion)

    def _is_refused(self, model: str, release: Release) -> bool:
        refused = self.refusal(model)
        return refused is not None and refused.release.sequence == release.sequence

    def _make_ready(self, model: str, arm: _Arm, entry: Release | Rollout | None) -> None:
        """Load the version of an entry, unless it is loaded, or was refused a moment ago."""
        known = self._refused.get((model, arm))
        if entry is None or entry.bundle in self._loaded[model]:
            self._refused.pop((model, arm), None)
            return
        again = known is not None and known.release.sequence == entry.sequence
        if known is not None and again and time.monotonic() - known.tried <= RETRY_SECONDS:
            return
        try:
            self._loaded[model][entry.bundle] = self._load(entry)
        except FeilunError as error:
            if not again:
                _log.error("Version %d of %s is refused: %s", entry.version, model, error)
            self._refused[model, arm] = Refusal(entry, str(error), time.monotonic())
        else:
            self._refused.pop((model, arm), None)

    def _load(self, release: Release | Rollout) -> Served:
        bundle, data = read_bundle(self._bundles, release.bundle)
        if bundle.model != release.model:
            raise ModelError(
                f"Bundle {release.bundle[:12]} is of model {bundle.model!r}, not {release.model!r}."
            )
        columns = self._columns(bundle)
        loader = loader_of(self._loaders, bundle)
        try:
            width = sum(column.width for column in columns.columns)
            scorer = GuardedScorer(loader.load(data, width), width, waits=loader.waits)
        except FeilunError:
            raise
        except Exception as error:  # a loader is an adapter: nothing it does may end the follower
            raise ModelError(f"The model's loader raised {type(error).__name__}.") from error
        scorer.warm(WARM_SECONDS)
        for digest in columns.encoders.values():
            self._await_encoder(digest)
        return Served(release, scorer, columns)

    def _await_encoder(self, digest: str) -> None:
        """Wait until what a new version reads texts by is loaded; the old one answers meanwhile.

        What cannot be loaded, or is not there, is said of the answers, and mends itself.
        """
        until = time.monotonic() + ENCODER_SECONDS
        while time.monotonic() < until:
            try:
                self._encoders.encode(digest, [])
            except EncoderLoading:
                time.sleep(POLL_SECONDS)
            except Exception as error:  # an adapter: nothing it does may end the follower
                _log.warning("The encoder %.12s of a new version: %s", digest, error)
                return
            else:
                return

    def _columns(self, bundle: Bundle) -> Columns:
        """Return the bundle's columns, which may be other ones than the model has today."""
        columns = resolve_columns(bundle.columns, self._project, bundle.folds)
        for capability in self._project.capabilities.values():
            if bundle.model not in capability.models:
                continue
            if capability.item != bundle.item:
                raise ModelError(
                    f"The model scores rows of {bundle.item}; {capability.path} asks for "
                    f"{capability.item}.",
                    "Train the model again.",
                )
            _check_keys(columns, capability, self._project)
            _check_parameters(columns, capability)
        model = replace(self._project.models[bundle.model], columns=columns)
        logged = bundle.logged_columns(model.columns_digest)
        return Columns(columns, model.request, bundle.categories, logged)

    def _acknowledge(self, model: str, newest: _Newest) -> None:
        lineup = self._lineups[model]
        # A worker that serves nothing yet says so: the first promotion waits for it too.
        sequence = NOTHING if lineup.champion is None else lineup.champion.release.sequence
        rollout = NOTHING
        if newest.rollout is not None and lineup.rollout == newest.going_on:
            rollout = newest.rollout.sequence
        now = time.monotonic()
        known, at = self._acknowledged.get(model, ((-1, -1), 0.0))
        if known != (sequence, rollout) or now - at > ACKNOWLEDGE_SECONDS:
            self._releases.acknowledge(self._worker, model, sequence, self._clock.now(), rollout)
            self._acknowledged[model] = ((sequence, rollout), now)


class _Newest(NamedTuple):
    """The newest entries about one model."""

    release: Release | None
    rollout: Rollout | None

    @property
    def going_on(self) -> Rollout | None:
        return going_on(self.rollout, self.release)


def _check_keys(columns: Sequence[Readable], capability: CapabilitySpec, project: Project) -> None:
    """Refuse columns of an entity that the capability's requests do not name any more."""
    named = {*keys_of(capability, project.entities), capability.item}
    for feature in features_of(columns):
        for key in feature.keys:
            if key.name not in named:
                raise ModelError(
                    f"The model reads {feature.address} of a {key.name}, which "
                    f"{capability.path} does not name.",
                    "Put the parameter back, or train the model again.",
                )


def _check_parameters(columns: Sequence[Readable], capability: CapabilitySpec) -> None:
    """Refuse columns that are parameters which the capability's request has no more."""
    known = {parameter.name: parameter.annotation for parameter in capability.parameters}
    for column in inputs_of(columns):
        if not isinstance(column, RequestSpec) or column.is_moment:
            continue
        if scalar_type(known.get(column.name)) != column.dtype:
            raise ModelError(
                f"The model reads the parameter {column.name} ({column.dtype}), which "
                f"{capability.path} does not have.",
                "Put the parameter back, or train the model again.",
            )


async def stop(task: asyncio.Task[None]) -> None:
    """Cancel a background task and wait until it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
