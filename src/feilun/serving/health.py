"""``/health``, ``/ready``, ``/metrics`` and ``/status``: the gateway about itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from feilun.clock import Clock
from feilun.definitions.specs import CapabilitySpec, Project
from feilun.errors import FeilunError
from feilun.features.online import OnlineReader
from feilun.ports.event_log import Count, EventLog
from feilun.ports.skew_store import ModelSkew, SkewState, SkewStore
from feilun.ports.turn_store import TurnStore
from feilun.serving.access.keyring import Keyring
from feilun.serving.access.quota import Quota
from feilun.serving.http.admission import Admission
from feilun.serving.http.exchange import Request, Response
from feilun.serving.metrics import Metrics
from feilun.serving.scoring.champion import Champions, Refusal
from feilun.serving.snapshots.freshness import Freshness
from feilun.serving.snapshots.moment import ClockMode, Moments

METRICS = {
    "feilun_requests_total": "Requests answered, by route and HTTP status.",
    "feilun_request_seconds": "Time from the first byte of a request to its reply, in seconds.",
    "feilun_predictions_total": "Answers of capabilities; version 0 is the fallback.",
    "feilun_degraded_total": "Answers that were less than asked for, by reason.",
    "feilun_model_failures_total": "Calls in which a model raised, hung or gave no number.",
    "feilun_rollout_percent": "How many of the units get a model's challenger from this worker.",
    "feilun_encoder_texts_total": "Texts whose vectors answers needed, by what became of them.",
    "feilun_encoder_failures_total": "Calls of an encoder that failed or took too long.",
    "feilun_shadow_total": "Requests offered to a shadow, by what became of them.",
    "feilun_folded_offset": "Every record below this offset is in the features.",
    "feilun_log_end": "The offset that the next record will get.",
    "feilun_lag_records": "Records in the log that are not in the features yet.",
    "feilun_features_stale": "1 while the features lack records that came seconds ago.",
    "feilun_features_unbuilt": "Features that are missing while the engine builds them.",
    "feilun_tiles_mended_total": "Damaged blobs of tiles that were made anew from the log.",
    "feilun_events_total": "Events kept in the log, by event.",
    "feilun_late_events_total": "Events that came too late to count and are kept, by event.",
    "feilun_skew_audited_total": "Rows in which a feature as served was computed again.",
    "feilun_skew_mismatch_total": "Those in which it came out otherwise than it was served.",
    "feilun_skew_left_out_total": "Requests that were to be audited and could not be, by reason.",
    "feilun_model_version": "The version of a model that this worker serves.",
    "feilun_usage_total": "Requests of teams that were answered; version 0 is no model.",
    "feilun_keys_unreadable": "1 while the teams' keys cannot be read and the last known count.",
    "feilun_requests_limit": "How many requests at a time this worker lets in.",
    "feilun_requests_inside": "How many it is answering.",
    "feilun_release_refused": "1 while the newest release of a model cannot be loaded.",
}
"""Every metric that the gateway exposes, with its help text."""

_T = TypeVar("_T")
_NAMED = 10
"""The most features that a problem names."""
_PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"


class Health:
    """Answers about the gateway's own state. Nothing here changes anything."""

    def __init__(
        self,
        *,
        project: Project,
        log: EventLog,
        moments: Moments,
        reader: OnlineReader,
        freshness: Freshness,
        champions: Champions,
        keyring: Keyring,
        quota: Quota,
        turns: TurnStore,
        skew: SkewStore,
        metrics: Metrics,
        clock: Clock,
        mode: ClockMode,
        worker: str,
        log_problem: Callable[[], str],
        encoder_problem: Callable[[], str],
        admission: Admission,
    ) -> None:
        self._project = project
        self._log = log
        self._moments = moments
        self._reader = reader
        self._freshness = freshness
        views = project.views.values()
        self._features = tuple(feature for view in views for feature in view.features)
        self._champions = champions
        self._keyring = keyring
        self._quota = quota
        self._turns = turns
        self._skew = skew
        self._metrics = metrics
        self._clock = clock
        self._mode = mode
        self._worker = worker
        self._log_problem = log_problem
        self._encoder_problem = encoder_problem
        self._admission = admission
        self._unread: dict[str, str] = {}

    async def health(self, _: Request) -> Response:
        """Say that the process lives: a supervisor restarts it when this does not answer."""
        return Response(b'{"status":"alive"}')

    async def ready(self, _: Request) -> Response:
        """Say whether requests can be answered: a load balancer sends none while this is 503.

        ``degraded``: they are, from what is at hand. Anybody may ask, so where keys are asked for
        it says that something is wrong, not what.
        """
        problems = self._problems()
        doubts = [] if problems else self._doubts()
        status = "not ready" if problems else "degraded" if doubts else "ready"
        shown = [] if self._keyring.required else problems + doubts
        body = {"status": status, "problems": shown}
        return Response(msgspec.json.encode(body), 503 if problems else 200)

    def _problems(self) -> list[str]:
        problems = []
        try:
            self._moments.mark()
        except FeilunError as error:
            problems.append(f"The features cannot be read: {error}")
        try:
            self._log.end()
            if problem := self._log_problem():
                problems.append(f"The log takes no records: {problem}")
        except FeilunError as error:
            problems.append(f"The log cannot be read: {error}")
        try:
            self._keyring.check_fresh()
        except FeilunError as error:
            problems.append(str(error))
        return problems

    def _unanswering(self) -> list[CapabilitySpec]:
        """Return the capabilities that can answer nobody."""
        return [
            capability
            for capability in self._project.capabilities.values()
            if capability.fallback is None
            and not self._champions.lineup(capability.model).answers_all
        ]

    async def metrics(self, _: Request) -> Response:
        """Return what Prometheus scrapes."""
        mark, end = self._moments.mark(), self._log.end()
        self._metrics.set("feilun_folded_offset", mark.offset)
        self._metrics.set("feilun_log_end", end)
        self._metrics.set("feilun_lag_records", max(0, end - mark.offset))
        self._metrics.set("feilun_features_stale", float(self._freshness.stale))
        with self._reader.snapshot() as snapshot:
            self._metrics.set("feilun_features_unbuilt", len(snapshot.unbuilt(self._features)))
            self._metrics.count("feilun_tiles_mended_total", snapshot.mended())
        for model in self._project.models:
            served = self._champions.get(model)
            self._metrics.set(
                "feilun_model_version", served.release.version if served else 0, model=model
            )
            refused = self._champions.refusal(model) is not None
            self._metrics.set("feilun_release_refused", float(refused), model=model)
            rollout = self._champions.lineup(model).rollout
            percent = rollout.percent if rollout else 0.0
            self._metrics.set("feilun_rollout_percent", percent, model=model)
        self._metrics.set("feilun_requests_limit", self._admission.limit)
        self._metrics.set("feilun_requests_inside", self._admission.inside)
        self._metrics.set("feilun_keys_unreadable", float(bool(self._keyring.problem())))
        for event, count in self._events().items():
            self._metrics.count("feilun_events_total", count.records, event=event)
            self._metrics.count("feilun_late_events_total", count.late, event=event)
        await self._measure_skew()
        return Response(self._metrics.expose().encode(), content_type=_PROMETHEUS)

    async def _measure_skew(self) -> None:
        metrics = self._metrics
        for model, skew in (await self._audited()).items():
            for address, found in skew.features.items():
                names = {"model": model, "feature": address}
                metrics.count("feilun_skew_audited_total", found.audited, **names)
                metrics.count("feilun_skew_mismatch_total", found.mismatched, **names)
            for reason, requests in skew.left_out.items():
                metrics.count("feilun_skew_left_out_total", requests, model=model, reason=reason)

    async def _audited(self) -> dict[str, ModelSkew]:
        """Return what the audit has found, from a database that another process may write to."""
        found = (
            await asyncio.to_thread(self._kept, "audit of vectors", self._skew.load, SkewState())
        ).models
        return {model: found.get(model, ModelSkew()) for model in self._project.models}

    def _events(self) -> dict[str, Count]:
        """Return how many events were kept since the log counts them, by the project's events."""
        found = dict.fromkeys(self._project.events, Count(0, 0))
        for schema, count in self._log.counts().items():
            name = schema.partition(".")[0]
            if name in found:
                known = found[name]
                found[name] = Count(known.records + count.records, known.late + count.late)
        return found

    async def status(self, _: Request) -> Response:
        """Return where everything stands, for people and for ``feilun status``."""
        mark, end = self._moments.mark(), self._log.end()
        body = {
            "project": self._project.name,
            "worker": self._worker,
            "clock": self._mode,
            "now": self._clock.now(),
            "folded_offset": mark.offset,
            "folded_time": mark.time,
            "log_end": end,
            "lag": max(0, end - mark.offset),
            "events": {name: count._asdict() for name, count in self._events().items()},
            "models": {model: self._model(model) for model in self._project.models},
            "skew": await self._audited(),
            # The turns are in a database that another process may be writing to.
            "flywheels": await asyncio.to_thread(self._kept, "turns", self._flywheels, {}),
            "keys": "required" if self._keyring.required else "not needed",
            "problems": [
                *self._problems(),
                *self._doubts(),
                *self._untrained(),
                *self._unread.values(),
            ],
        }
        return Response(msgspec.json.encode(body))

    def _doubts(self) -> list[str]:
        """Return what cannot be had now, and is answered for from what is at hand."""
        doubts = [
            self._freshness.problem(),
            self._keyring.problem(),
            self._champions.problem(),
            self._quota.problem(),
            self._encoder_problem(),
        ]
        if unbuilt := self._unbuilt():
            named = ", ".join(unbuilt[:_NAMED]) + (", …" if len(unbuilt) > _NAMED else "")
            doubts.append(
                f"{len(unbuilt)} of {len(self._features)} features are missing while the engine "
                f"builds them from the log: {named}."
            )
        return [doubt for doubt in doubts if doubt] + self._refused()

    def _refused(self) -> list[str]:
        """Return which versions cannot be loaded, and which capabilities answer nobody for it.

        The other capabilities, the views and the events are no worse off.
        """
        refusal = self._champions.refusal
        return [
            f"Version {refused.release.version} of {model} cannot be loaded: {refused.reason}"
            for model in self._project.models
            for refused in (refusal(model), refusal(model, "challenger"))
            if refused is not None
        ] + [
            f"{capability.path} has no fallback, and the version of {capability.model} in "
            "production was refused."
            for capability in self._unanswering()
            if refusal(capability.model) is not None
        ]

    def _untrained(self) -> list[str]:
        """Return which capabilities wait for their first model.

        That is no reason to send a gateway nothing: the events that it is to be trained on come
        this way.
        """
        return [
            f"{capability.path} has no version of {capability.model} and no fallback."
            for capability in self._unanswering()
            if self._champions.refusal(capability.model) is None
        ]

    def _unbuilt(self) -> list[str]:
        with self._reader.snapshot() as snapshot:
            return snapshot.unbuilt(self._features)

    def _kept(self, what: str, read: Callable[[], _T], otherwise: _T) -> _T:
        """Return what is kept of the ``what``, or ``otherwise``; ``_unread`` says why."""
        try:
            found = read()
        except FeilunError as error:
            self._unread[what] = f"The {what} cannot be read: {error}"
            return otherwise
        self._unread.pop(what, None)
        return found

    def _model(self, model: str) -> dict[str, Any]:
        served, refused = self._champions.get(model), self._champions.refusal(model)
        rollout = self._champions.lineup(model).rollout
        return {
            "version": served.release.version if served else None,
            "sequence": served.release.sequence if served else None,
            "bundle": served.release.bundle if served else None,
            "since_offset": served.release.offset if served else None,
            "refused": _refusal(refused),
            "rollout": rollout and rollout._asdict(),
            "rollout_refused": _refusal(self._champions.refusal(model, "challenger")),
        }

    def _flywheels(self) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for model in self._project.flywheels:
            turns = self._turns.turns(model)
            running = [turn for turn in turns if turn.state == "running"]
            state[model] = {
                "examined_offset": self._turns.examined(model),
                "turns": len(turns),
                "running_turn": running[-1]._asdict() if running else None,
                "last": turns[-1]._asdict() if turns else None,
            }
        return state


def _refusal(refused: Refusal | None) -> dict[str, Any] | None:
    if refused is None:
        return None
    return {
        "version": refused.release.version,
        "sequence": refused.release.sequence,
        "reason": refused.reason,
    }
