"""Putting a version in production: by a turn, or back by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from feilun.clock import SECOND, Clock
from feilun.errors import FeilunError, InputError, NoModel, UnknownName
from feilun.flywheel.workshop import Workshop
from feilun.i18n import _
from feilun.models.bundle import read_bundle
from feilun.ports.releases import Release, replaced, step_back

WAIT_SECONDS = 10.0
"""How long a promotion waits for the gateway's workers to take it up."""
POLL_SECONDS = 0.05
ALIVE = 5 * SECOND
"""A worker that has said nothing for so long (µs) is not waited for."""


def await_workers(workshop: Workshop, release: Release, expected: int = 0) -> dict[str, Any]:
    """Wait until every live gateway worker serves a release, for at most ``WAIT_SECONDS``.

    Parameters
    ----------
    workshop : Workshop
        What to work with.
    release : Release
        What is to be served.
    expected : int
        How many workers there should be at the least; they are waited for, too.

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
        expected,
    )


def wait_for(
    sequence: int,
    ask: Callable[[int], Mapping[str, int]],
    clock: Clock,
    pause: Callable[[float], None],
    expected: int = 0,
) -> dict[str, Any]:
    """Wait until every worker that ``ask`` knows to be alive has come to ``sequence``.

    That nobody is behind says nothing where nobody has been heard of: so many are ``expected``.
    """
    known: Mapping[str, int] = {}
    for _attempt in range(int(WAIT_SECONDS / POLL_SECONDS)):
        known = ask(clock.now() - ALIVE)
        if len(known) >= expected and all(reached >= sequence for reached in known.values()):
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

    The registry need not be there; `tell_registry` comes after.

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
        raise NoModel(
            _("No version of {model} is in production.", model=model),
            _("Train one: feilun train {model}", model=model),
        )
    if version is None:
        target = step_back(workshop.releases.entries(model))
        if target is None:
            raise UnknownName(
                _("There was no version of {model} before {version}.",
                  model=model, version=current.version),
                _("Name one: feilun rollback {model} --to VERSION. See: feilun history",
                  model=model),
            )  # fmt: skip
    else:
        if version == current.version:
            raise InputError(
                _("Version {version} of {model} is in production already.",
                  version=version, model=model)
            )  # fmt: skip
        entries = workshop.releases.entries(model)
        target = next((entry for entry in entries if entry.version == version), None)
        if target is None:
            raise UnknownName(
                _("Version {version} of {model} was never in production.",
                  version=version, model=model),
                _("See: feilun history"),
            )  # fmt: skip
    read_bundle(workshop.bundles, target.bundle)
    return workshop.releases.append(
        model,
        target.version,
        target.bundle,
        action="rollback",
        offset=workshop.log.end(),
        at=workshop.clock.now(),
        turn=None,
        by=by,
    )


def tell_registry(workshop: Workshop, release: Release) -> str:
    """Point the registry's alias at what is in production; return why it cannot be, or nothing.

    The alias is for people, and it takes seconds: the release stands without it. So it comes last.
    """
    try:
        workshop.registry.set_alias(release.model, "champion", release.version)
    except FeilunError as error:
        return error.message
    return ""
