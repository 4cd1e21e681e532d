"""Follows what is in production and holds it ready: one loaded version per model.

A new version is loaded and warmed beside the old one and takes its place between two requests. One
that cannot be loaded is refused with its reason, and the old one goes on serving.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from feilun.clock import Clock
from feilun.definitions.compile_requests import scalar_type
from feilun.definitions.specs import (
    CapabilitySpec,
    FeatureSpec,
    ModelSpec,
    Project,
    Readable,
    RequestSpec,
    inputs_of,
)
from feilun.errors import FeilunError, ModelError
from feilun.models.bundle import Bundle, read_bundle, resolve_columns
from feilun.models.training import loader_of
from feilun.ports.releases import Release, ReleaseHistory
from feilun.ports.scorer import ScorerLoader
from feilun.records.record import RECOMPUTE
from feilun.serving.scoring import GuardedScorer

POLL_SECONDS = 0.05
ACKNOWLEDGE_SECONDS = 1.0
"""How often a worker says that it still serves what it serves."""
WARM_SECONDS = 5.0
"""How long a new model may take to score its first rows."""
RETRY_SECONDS = 5.0
"""How often a refused bundle is tried again: its folder may have been restored."""

NOTHING = 0
"""The sequence that a worker acknowledges before the first release."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Columns:
    """The columns of a matrix as this project computes them.

    ``digest`` is logged with each prediction: vectors of one digest may be trained on together.
    """

    columns: tuple[Readable, ...]
    features: tuple[FeatureSpec, ...]
    request: tuple[RequestSpec, ...]
    categories: Mapping[str, Sequence[str]]
    digest: str


@dataclass(frozen=True)
class Served:
    """A version in production, loaded. A request takes one and keeps it to its end."""

    release: Release
    scorer: GuardedScorer
    columns: Columns


@dataclass(frozen=True)
class Refusal:
    """A release that could not be loaded, why, and when (s, monotonic) it was tried."""

    release: Release
    reason: str
    tried: float


def untrained_columns(model: ModelSpec) -> Columns:
    """Return the columns that are logged while no version of ``model`` exists yet.

    Nobody has given codes to text by then: such vectors are marked, so that training computes
    them again.
    """
    texts = {column.address: () for column in model.columns if column.dtype == "str"}
    digest = RECOMPUTE if texts else model.columns_digest
    return Columns(model.columns, model.features, model.request, texts, digest)


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
    ) -> None:
        self._project = project
        self._releases = releases
        self._loaders = loaders
        self._bundles = bundles
        self._clock = clock
        self._worker = worker
        self._served: dict[str, Served] = {}
        self._refused: dict[str, Refusal] = {}
        self._acknowledged: dict[str, tuple[int, float]] = {}

    def get(self, model: str) -> Served | None:
        """Return the version to serve; None before the first."""
        return self._served.get(model)

    def refusal(self, model: str) -> Refusal | None:
        """Return why the newest release of ``model`` is not served, if it is not."""
        return self._refused.get(model)

    async def follow(self) -> None:
        """Refresh for ever, in a thread of its own: loading never holds a request up."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="releases")
        try:
            while True:
                try:
                    await loop.run_in_executor(thread, self.refresh)
                except FeilunError as error:
                    _log.warning("The releases cannot be followed for now: %s", error)
                    await asyncio.sleep(ACKNOWLEDGE_SECONDS)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def refresh(self) -> None:
        """Look once at what is in production, load what is new, acknowledge what is served."""
        for model in self._project.models:
            release = self._releases.current(model)
            if release is not None and self._is_news(release):
                self._take(release)
            self._acknowledge(model)

    def _is_news(self, release: Release) -> bool:
        served, refused = self._served.get(release.model), self._refused.get(release.model)
        if refused is not None and refused.release.sequence == release.sequence:
            return time.monotonic() - refused.tried > RETRY_SECONDS
        return served is None or served.release.sequence != release.sequence

    def _take(self, release: Release) -> None:
        served = self._served.get(release.model)
        try:
            if served is not None and served.release.bundle == release.bundle:
                fresh = replace(served, release=release)
            else:
                fresh = self._load(release)
        except FeilunError as error:
            known = self._refused.get(release.model)
            if known is None or known.release.sequence != release.sequence:
                _log.error("Version %d of %s is refused: %s", release.version, release.model, error)
            self._refused[release.model] = Refusal(release, str(error), time.monotonic())
            return
        self._served[release.model] = fresh
        self._refused.pop(release.model, None)

    def _load(self, release: Release) -> Served:
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
        return Served(release, scorer, columns)

    def _columns(self, bundle: Bundle) -> Columns:
        """Return the bundle's columns, which may be other ones than the model has today."""
        columns = resolve_columns(bundle.columns, self._project)
        for capability in self._project.capabilities.values():
            if capability.model != bundle.model:
                continue
            if capability.item != bundle.item:
                raise ModelError(
                    f"The model scores rows of {bundle.item}; {capability.path} asks for "
                    f"{capability.item}.",
                    "Train the model again.",
                )
            _check_parameters(columns, capability)
        model = replace(self._project.models[bundle.model], columns=columns)
        logged = bundle.logged_columns(model.columns_digest)
        return Columns(columns, model.features, model.request, bundle.categories, logged)

    def _acknowledge(self, model: str) -> None:
        served = self._served.get(model)
        # A worker that serves nothing yet says so: the first promotion waits for it too.
        sequence = NOTHING if served is None else served.release.sequence
        now = time.monotonic()
        known, at = self._acknowledged.get(model, (-1, 0.0))
        if known != sequence or now - at > ACKNOWLEDGE_SECONDS:
            self._releases.acknowledge(self._worker, model, sequence, self._clock.now())
            self._acknowledged[model] = (sequence, now)


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
