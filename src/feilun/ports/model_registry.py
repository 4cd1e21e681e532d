"""The model registry: runs, versions and aliases, as people look at them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol


class ModelVersion(NamedTuple):
    """A registered version: ``bundle`` is the digest of what the gateway loads."""

    model: str
    version: int
    bundle: str
    run_id: str
    created: int


class ModelRegistry(Protocol):
    """Where training is tracked and versions are numbered."""

    def register(
        self,
        model: str,
        bundle: str,
        folder: Path,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> ModelVersion:
        """Record a training run with its files and register its bundle as a new version.

        Called once a turn. Idempotent by (model, bundle): the second call returns the first's.
        """
        ...

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point ``champion`` or ``challenger`` at a version. Idempotent.

        Raises UnknownName if there is no such version.
        """
        ...

    def get(self, model: str, version: int | str) -> ModelVersion | None:
        """Return a version by number or alias."""
        ...

    def versions(self, model: str) -> list[ModelVersion]:
        """Return every version, oldest first."""
        ...
