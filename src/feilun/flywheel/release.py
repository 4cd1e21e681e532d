"""Putting a version in production: by a turn, or back by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from feilun.clock import SECOND, Clock
from feilun.errors import InputError, NoModel, UnknownName
from feilun.flywheel.workshop import Workshop
from feilun.models.bundle import read_bundle
from feilun.ports.releases import Release, replaced, step_back

WAIT_SECONDS = 10.0
"""How long a promotion waits for the gateway's workers to take it up."""
POLL_SECONDS = 0.05
ALIVE = 5 * SECOND
"""A worker that has said nothing for so long (µs) is not waited for."""


def await_workers(workshop: Workshop, release: Release) -> dict[str, Any]:
    """Wait until every live gateway worker serves a release, for at most ``WAIT_SECONDS``.

    Returns
    -------
    dict
        ``serving`` and ``behind``: the names of workers that do, and that did not in time.
    """
    return wait_for(
        release.sequence,
        lambda since: workshop.releases.serving(release.model, since),
        workshop.clock,
        workshop.pause,
    )


def wait_for(
    sequence: int,
    ask: Callable[[int], Mapping[str, int]],
    clock: Clock,
    pause: Callable[[float], None],
) -> dict[str, Any]:
    """Wait until every worker that ``ask`` knows to be alive has come to ``sequence``."""
    known: Mapping[str, int] = {}
    for _ in range(int(WAIT_SECONDS / POLL_SECONDS)):
        known = ask(clock.now() - ALIVE)
        if all(reached >= sequence for reached in known.values()):
            break
        pause(POLL_SECONDS)
    return {
        "serving": [worker for worker, reached in known.items() if reached >= sequence],
        "behind": [worker for worker, reached in known.items() if reached < sequence],
    }


def replaced_by(workshop: Workshop, release: Release) -> Release | None:
    """Return what was in production just before ``release``, if it was another version."""
    return replaced(workshop.releases.entries(release.model), release)


def rollback(workshop: Workshop, model: str, by: str, version: int | None = None) -> Release:
    """Put an earlier version in production again; the history gets one more entry.

    Parameters
    ----------
    workshop : Workshop
        What to work with.
    model : str
        The model.
    by : str
        Who does it, for the history.
    version : int, optional
        A version that was in production before; if left out, the one that the current version
        replaced when it first came, so that two rollbacks go back two versions.

    Raises
    ------
    NoModel
        If nothing is in production.
    UnknownName
        If that version never was in production, or there is none before.
    InputError
        If it is in production already.
    ModelError, CorruptData
        If its bundle cannot be loaded: nothing is changed.
    """
    current = workshop.releases.current(model)
    if current is None:
        raise NoModel(f"No version of {model} is in production.", "Train one: feilun train")
    if version is None:
        target = step_back(workshop.releases.entries(model))
        if target is None:
            raise UnknownName(f"There was no version of {model} before {current.version}.")
    else:
        if version == current.version:
            raise InputError(f"Version {version} of {model} is in production already.")
        entries = workshop.releases.entries(model)
        target = next((entry for entry in entries if entry.version == version), None)
        if target is None:
            raise UnknownName(
                f"Version {version} of {model} was never in production.", "See: feilun history"
            )
    read_bundle(workshop.bundles, target.bundle)
    release = workshop.releases.append(
        model,
        target.version,
        target.bundle,
        action="rollback",
        offset=workshop.log.end(),
        at=workshop.clock.now(),
        turn=None,
        by=by,
    )
    workshop.registry.set_alias(model, "champion", target.version)
    return release
