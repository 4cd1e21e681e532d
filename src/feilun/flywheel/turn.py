"""One turn: collect, train, audit, gate, register, promote or reject, measure the last promotion.

Each step is kept with a digest of what went into it as soon as it is done. A turn that is taken up
again after a crash repeats only the step that was not kept, and each step may be repeated: a bundle
is named by its content, a registration by its bundle, a release by its turn. Every write compares
the turn's fence, so that of two controllers only the newer one goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from feilun.clock import MINUTE, SECOND
from feilun.definitions.specs import GateSpec, digest
from feilun.errors import CorruptData, FeilunError, Fenced, ModelError
from feilun.flywheel import gate
from feilun.flywheel.effect import effect
from feilun.flywheel.release import await_workers, replaced_by
from feilun.flywheel.workshop import Workshop
from feilun.models.example_log import ExampleLog, capability_of
from feilun.models.examples import Examples
from feilun.models.history import history_examples
from feilun.models.training import Split, score, split, train, trained_until
from feilun.ports.releases import Release
from feilun.ports.turn_store import Step, Turn, TurnState

LEASE = 10 * MINUTE
"""How long (µs) a step may take before another controller may take the turn over."""
MAX_CLAIMS = 20
"""A turn that was begun so often and never ended brings its process down: it is given up."""
FEWEST_REQUESTS = 150
"""With fewer answered requests than this, the first turn uses history where it holds more."""
GATE_BY_HAND = GateSpec(confidence=0.95, margin=0.0)
"""What a model without a loop must pass when somebody asks for a turn."""


class TurnRun:
    """Takes one turn to its end, from wherever it stands.

    Parameters
    ----------
    workshop : Workshop
        What to work with.
    turn : Turn
        The turn, running.
    reader : ExampleLog
        Reads the model's requests; shared by the turns of a model, so that each reads on.
    """

    def __init__(self, workshop: Workshop, turn: Turn, reader: ExampleLog) -> None:
        self._workshop = workshop
        self._turn = turn
        self._reader = reader
        loop = workshop.project.flywheels.get(turn.model)
        self._rule = loop.gate if loop is not None else GATE_BY_HAND
        self._model = workshop.project.models[turn.model]
        self._fence = 0
        self._kept: dict[str, Step] = {}

    def run(self) -> TurnState:
        """Do what is left to do, and return how the turn ended.

        Whatever goes wrong ends the turn as ``failed`` with its reason; production stays as it is.

        Raises
        ------
        Fenced
            If another controller holds the turn, or takes it over.
        """
        self._claim()
        turn = self._workshop.turns.get(self._turn.id)
        if turn is None or turn.state != "running":
            return "failed" if turn is None else turn.state
        self._kept = {step.name: step for step in self._workshop.turns.steps(turn.id)}
        try:
            state = self._advance()
        except Fenced:
            raise
        except FeilunError as error:
            state = "failed" if self._released() is None else "promoted"
            reason = str(error)
            self._step("failed", (reason,), lambda: {"reason": reason})
        self._workshop.turns.finish(turn.id, state, self._workshop.clock.now(), self._fence)
        return state

    def _advance(self) -> TurnState:
        if self._fence > MAX_CLAIMS:
            raise ModelError(
                f"The turn was begun {self._fence} times and never ended.",
                "Look at what its training function does to the process.",
            )
        # A release is final, even if the definitions have changed since it was made.
        released = self._released()
        collected = self._kept["collect"].output if released else self._collect()
        if released is None:
            trained = self._train(collected)
            decision = self._gate(collected, trained, self._audit())
            version = self._register(collected, trained, decision)
            state = self._conclude(collected, trained, decision, version)
        else:
            state = self._promote(released)
        self._measure(collected)
        return state

    def _collect(self) -> dict[str, Any]:
        model = self._model
        inputs = (self._turn.cut, model.definition_digest, model.code_digest)
        return self._step("collect", inputs, self._collected)

    def _collected(self) -> dict[str, Any]:
        champion = self._workshop.releases.current(self._turn.model)
        examples, source = self._examples
        parts = self._split(champion)
        offsets = examples.offset[examples.offset >= 0]
        return {
            "source": source,
            "offsets": [int(offsets.min()), int(offsets.max()) + 1] if len(offsets) else None,
            "requests": len(examples),
            "rows": len(examples.y),
            "left_out": examples.left_out,
            "train_requests": len(parts.train),
            "holdout_requests": len(parts.holdout),
            "holdout_from": parts.start,
            "digest": examples.digest(),
            "champion": champion and list(champion),
        }

    def _train(self, collected: dict[str, Any]) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            trained = train(
                self._model,
                capability_of(self._workshop.project, self._model).item,
                self._split(_champion(collected)),
                self._categories,
                convert=self._workshop.convert,
                root=self._workshop.bundles,
                cut=self._turn.cut,
            )
            archived = self._workshop.name_snapshot(f"train/{trained.bundle[:16]}")
            return {"bundle": trained.bundle, "params": trained.params, "archived": archived}

        inputs = (collected["digest"], collected["holdout_from"], self._model.definition_digest)
        return self._step("train", (*inputs, self._model.code_digest), work)

    def _audit(self) -> dict[str, Any]:
        """Compare what was served since the last turn with what training computes of it."""
        shop, turn = self._workshop, self._turn
        start = self._last_cut()

        def work() -> dict[str, Any]:
            return gate.skew_record(shop.audit(turn.model, start, turn.cut))

        return self._step("audit", (start, turn.cut, self._model.columns_digest), work)

    def _gate(
        self, collected: dict[str, Any], trained: dict[str, Any], audited: dict[str, Any]
    ) -> dict[str, Any]:
        champion = _champion(collected)

        def work() -> dict[str, Any]:
            parts = self._split(champion)
            scores = self._scores(trained["bundle"], parts.holdout)
            if scores is None:
                raise ModelError("The challenger does not read the columns it was trained on.")
            name = self._model.metric
            rival = self._rival(champion, parts)
            seed = int(collected["digest"][:8], 16)
            decision = gate.decide(self._rule, name, parts.holdout, scores, rival, seed=seed)
            return gate.record(gate.refuse_skew(decision, audited["reason"]))

        rule = (self._rule.confidence, self._rule.margin)
        inputs = (trained["bundle"], champion and champion.bundle, *rule)
        return self._step("gate", (*inputs, collected["digest"], audited["reason"]), work)

    def _rival(self, champion: Release | None, parts: Split) -> gate.Rival:
        """Return whom to beat: the champion, or what was served where it cannot be asked."""
        if champion is not None:
            try:
                scores = self._scores(champion.bundle, parts.holdout)
            except (ModelError, CorruptData):
                scores = None
            if scores is not None:
                return gate.Rival(f"version {champion.version}", scores)
        return gate.served_rival(self._model.metric, parts.holdout, float(np.mean(parts.train.y)))

    def _register(
        self, collected: dict[str, Any], trained: dict[str, Any], decision: dict[str, Any]
    ) -> int:
        def work() -> dict[str, Any]:
            metric, turn = self._model.metric, self._turn
            figures = {
                metric: decision["challenger"],
                f"champion_{metric}": decision["champion"],
                "difference_low": decision["interval"]["low"],
            }
            version = self._workshop.registry.register(
                turn.model,
                trained["bundle"],
                self._workshop.bundles / trained["bundle"],
                params=trained["params"],
                metrics={name: value for name, value in figures.items() if value is not None},
                tags={
                    "feilun.turn": str(turn.id),
                    "feilun.trigger": turn.trigger,
                    "feilun.cut": str(turn.cut),
                    "feilun.offsets": str(collected["offsets"]),
                    "feilun.data": collected["digest"],
                    "feilun.code": self._model.code_digest,
                    "feilun.definition": self._model.definition_digest,
                    "feilun.decision": decision["reason"],
                },
            )
            self._workshop.registry.set_alias(turn.model, "challenger", version.version)
            return {"version": version.version, "run": version.run_id}

        return int(self._step("register", (trained["bundle"],), work)["version"])

    def _conclude(
        self,
        collected: dict[str, Any],
        trained: dict[str, Any],
        decision: dict[str, Any],
        version: int,
    ) -> TurnState:
        champion, current = _champion(collected), self._workshop.releases.current(self._turn.model)
        reason = "" if decision["promote"] else decision["reason"]
        if not reason and current != champion:
            reason = "production has changed since the turn began"
        if reason:
            self._step("reject", (trained["bundle"], reason), lambda: {"reason": reason})
            return "rejected"
        release = self._workshop.releases.append(
            self._turn.model,
            version,
            trained["bundle"],
            action="promote",
            offset=self._workshop.log.end(),
            at=self._workshop.clock.now(),
            turn=self._turn.id,
            by=self._workshop.by,
            fence=self._fence,
        )
        return self._promote(release)

    def _promote(self, release: Release) -> TurnState:
        """Tell the registry, and wait until the gateway serves what has been released."""

        def work() -> dict[str, Any]:
            output = {"release": list(release), **await_workers(self._workshop, release)}
            try:
                self._workshop.registry.set_alias(release.model, "champion", release.version)
            except Fenced:
                raise
            except FeilunError as error:  # the alias is for people; the release stands
                output["alias"] = str(error)
            return output

        self._step("promote", (release.sequence,), work)
        return "promoted"

    def _measure(self, collected: dict[str, Any]) -> None:
        after = _champion(collected)
        before = after and replaced_by(self._workshop, after)
        if after is None or before is None:
            return

        def work() -> dict[str, Any]:
            shop = self._workshop
            seed = int(collected["digest"][:8], 16)
            pair = (before, after)
            return effect(
                shop.bundles,
                shop.loaders,
                self._model,
                self._logged,
                pair,
                categories=self._categories,
                seed=seed,
            )

        self._step("effect", (before.sequence, after.sequence, collected["digest"]), work)

    @cached_property
    def _logged(self) -> Examples:
        """The answered requests. A function of the log up to the cut."""
        self._reader.advance(self._workshop.log, self._turn.cut)
        return self._reader.examples(self._workshop.log)

    @cached_property
    def _examples(self) -> tuple[Examples, str]:
        """The turn's data and where it comes from. A function of the log up to the cut."""
        shop, reader, logged = self._workshop, self._reader, self._logged
        earlier = any(turn.cut < self._turn.cut for turn in shop.turns.turns(self._turn.model))
        if len(logged) >= FEWEST_REQUESTS or (earlier and len(logged)):
            return logged, "predictions"
        try:
            past = history_examples(
                shop.project,
                self._model,
                shop.log,
                self._turn.cut,
                reader.categories,
                encoders=shop.encoders,
            )
        except ModelError:
            if not len(logged):
                raise
            return logged, "predictions"
        return (past, "history") if len(past) > len(logged) else (logged, "predictions")

    @property
    def _categories(self) -> dict[str, tuple[str, ...]]:
        self._reader.advance(self._workshop.log, self._turn.cut)
        return self._reader.categories

    def _split(self, champion: Release | None) -> Split:
        examples, _ = self._examples
        seen = 0
        if champion is not None:
            try:
                seen = trained_until(self._workshop.bundles, champion.bundle)
            except (ModelError, CorruptData):
                seen = 0  # it cannot be asked either: the gate compares with what was served
        within = self._model.label.within
        return split(examples, within, new_since=self._new_since(examples), not_before=seen)

    def _new_since(self, examples: Examples) -> int:
        """Return the moment of the first request since the model's last turn; 0 without one."""
        last = self._last_cut()
        new = examples.as_of[examples.offset >= last] if last else examples.as_of[:0]
        return int(new.min()) if len(new) else 0

    def _last_cut(self) -> int:
        """Return the cut of the model's last turn before this one; 0 without one."""
        turns = self._workshop.turns.turns(self._turn.model)
        return max((turn.cut for turn in turns if turn.cut < self._turn.cut), default=0)

    def _scores(self, bundle: str, examples: Examples) -> Any:
        shop = self._workshop
        codes = self._categories
        return score(shop.bundles, bundle, shop.loaders, self._model, examples, categories=codes)

    def _released(self) -> Release | None:
        entries = self._workshop.releases.entries(self._turn.model)
        return next((entry for entry in entries if entry.turn == self._turn.id), None)

    def _claim(self) -> None:
        shop = self._workshop
        self._fence = shop.turns.claim(self._turn.id, shop.owner, shop.clock.now(), LEASE)

    def _step(
        self, name: str, inputs: tuple[object, ...], work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Do a step, or return what it gave when it was done with the same inputs."""
        input_digest = digest(name, *inputs)
        kept = self._kept.get(name)
        if kept is not None and kept.input_digest == input_digest:
            return kept.output
        clock = self._workshop.clock
        start = clock.now()
        step = Step(name, input_digest, work(), 0.0)
        step = step._replace(seconds=(clock.now() - start) / SECOND)
        self._workshop.turns.save_step(self._turn.id, step, self._fence)
        self._kept[name] = step
        return step.output


def _champion(collected: dict[str, Any]) -> Release | None:
    found = collected["champion"]
    return None if found is None else Release(*found)
