"""What a turn works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from feilun.clock import Clock
from feilun.definitions.specs import Project
from feilun.models.training import Converter
from feilun.ports.encoder import NO_ENCODERS, Encoders
from feilun.ports.event_log import EventLog
from feilun.ports.model_registry import ModelRegistry
from feilun.ports.releases import ReleaseHistory
from feilun.ports.scorer import ScorerLoader
from feilun.ports.skew_store import ModelSkew
from feilun.ports.turn_store import TurnStore


@dataclass(frozen=True)
class Workshop:
    """The project, its stores and the tools of training; made by the composition root.

    Parameters
    ----------
    project : Project
        The definitions.
    log, turns, releases, registry
        The ports.
    bundles : Path
        The folder that bundles are written to, and that the gateway reads.
    convert : Converter
        Makes a gateway's model of what a training function returns.
    loaders : mapping
        By format, what loads models, as the gateway does.
    clock : Clock
        Dates turns and releases, and times the steps.
    pause : callable
        Waits so many seconds; ``time.sleep``, but for tests.
    name_snapshot : callable
        Keeps the lake's state under the name of a training set; returns up to which offset of the
        log that state reaches, or None where there is no lake.
    audit : callable
        Computes a sample of a model's vectors again that were logged between two offsets.
    encoders : Encoders
        Encode texts of requests whose vectors are computed again.
    owner : str
        Names the controller in leases. Two that run at once need different names; one that was
        killed and comes back under its own name goes on at once.
    by : str
        Who promotes what its turns make, for the history: a person, or ``flywheel``.
    """

    project: Project
    log: EventLog
    turns: TurnStore
    releases: ReleaseHistory
    registry: ModelRegistry
    bundles: Path
    convert: Converter
    loaders: Mapping[str, ScorerLoader]
    clock: Clock
    pause: Callable[[float], None]
    name_snapshot: Callable[[str], int | None]
    audit: Callable[[str, int, int], ModelSkew]
    owner: str
    by: str
    encoders: Encoders = NO_ENCODERS
