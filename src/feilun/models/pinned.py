"""Which folds and encoders models in production need, whatever the definitions say by now."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from feilun.definitions.specs import FoldSpec, Project, encodings_of, features_of, longest
from feilun.errors import CorruptData, FeilunError, ModelError
from feilun.models.bundle import read_description, resolve_columns
from feilun.ports.releases import Release, ReleaseHistory, Rollout, going_on, step_back

RETRY_SECONDS = 5.0
"""How often a bundle that cannot be read is tried again: its folder may have been restored."""

_Newest = tuple[Release | None, Rollout | None]
"""The newest entries about one model."""
_log = logging.getLogger(__name__)


class PinnedFolds:
    """Knows what the live versions of a project's models read, as the history says at each call.

    Live are the version in production, the one that is tried beside it, and the one that a rollback
    would return to.

    Parameters
    ----------
    project : Project
        The definitions, as they are now.
    releases : ReleaseHistory
        Which versions are live.
    bundles : Path
        The folder of bundles: what each was trained on.
    """

    def __init__(self, project: Project, releases: ReleaseHistory, bundles: Path) -> None:
        self._project = project
        self._releases = releases
        self._bundles = bundles
        self._newest: list[_Newest] | None = None
        self._read: dict[str, tuple[FoldSpec, ...]] = {}
        self._unreadable: dict[str, float] = {}
        self._folds: tuple[FoldSpec, ...] = ()

    def __call__(self) -> tuple[FoldSpec, ...]:
        """Return the folds; the same tuple while nothing has changed.

        Raises
        ------
        FeilunError
            If the history could not be read yet; once it was, what was known then counts on.
        """
        try:
            newest = [_newest(self._releases, model) for model in self._project.models]
            if newest != self._newest or self._is_worth_a_try():
                self._take_up([bundle for each in newest for bundle in _live(self._releases, each)])
                self._newest = newest
        except FeilunError as error:
            if self._newest is None:
                raise
            _log.warning("The releases cannot be read for now: %s", error)
        return self._folds

    def _is_worth_a_try(self) -> bool:
        """Whether a bundle that could not be read may have been restored."""
        return any(time.monotonic() - at > RETRY_SECONDS for at in self._unreadable.values())

    def _take_up(self, live: Sequence[str]) -> None:
        unreadable, self._unreadable = self._unreadable, {}
        self._read = {bundle: self._folds_of(bundle, unreadable) for bundle in live}
        folds = longest(fold for each in self._read.values() for fold in each)
        if [(f, f.retention) for f in folds] != [(f, f.retention) for f in self._folds]:
            self._folds = folds

    def _folds_of(self, bundle: str, unreadable: Mapping[str, float]) -> tuple[FoldSpec, ...]:
        """Return what a version reads; nothing if it cannot, which the gateway tells of."""
        if bundle in self._read and bundle not in unreadable:
            return self._read[bundle]
        try:
            described = read_description(self._bundles, bundle)
            columns = resolve_columns(described.columns, self._project, described.folds)
        except (ModelError, CorruptData) as error:
            if bundle not in unreadable:
                _log.error("Bundle %s pins no features: %s", bundle[:12], error)
            self._unreadable[bundle] = time.monotonic()
            return ()
        return tuple(feature.fold for feature in features_of(columns))


def live_encoders(project: Project, releases: ReleaseHistory, bundles: Path) -> dict[str, str]:
    """Return what versions in production, and those tried beside them, read texts by.

    Names of encoders and classifiers, by digest.
    """
    found: dict[str, str] = {}
    for model in project.models:
        current, rollout = _newest(releases, model)
        for entry in (current, going_on(rollout, current)):
            if entry is None:
                continue
            try:
                described = read_description(bundles, entry.bundle)
                columns = resolve_columns(described.columns, project, described.folds)
            except (ModelError, CorruptData):
                continue  # the gateway tells of it
            found.update((each.digest, each.encoder) for each in encodings_of(columns))
    return found


def _newest(releases: ReleaseHistory, model: str) -> _Newest:
    rollout = releases.rollout(model)  # first: a release that comes now ends it
    return releases.current(model), rollout


def _live(releases: ReleaseHistory, newest: _Newest) -> list[str]:
    current, rollout = newest
    entries = [] if current is None else releases.entries(current.model)
    live = (current, going_on(rollout, current), step_back(entries))
    return [each.bundle for each in live if each is not None]
