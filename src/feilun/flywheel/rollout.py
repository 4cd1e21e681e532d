"""A rollout: a version beside the one in production, in shadow, for some, for all; and its end.

``feilun rollout`` calls these by hand; a loop may drive them by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from feilun.clock import Clock
from feilun.errors import Conflict, InputError, UnknownName
from feilun.flywheel.release import wait_for
from feilun.flywheel.workshop import Workshop
from feilun.i18n import _
from feilun.models.bundle import read_bundle
from feilun.ports.event_log import EventLog
from feilun.ports.releases import Release, ReleaseHistory, Rollout, Stage, going_on

SALT_BYTES = 8


def start(workshop: Workshop, model: str, version: int, percent: float, by: str) -> Rollout:
    """Begin a rollout of a registered version, with a split of its own.

    Parameters
    ----------
    workshop : Workshop
        What to work with.
    model : str
        The model.
    version : int
        The challenger.
    percent : float
        How many of the units get it; 0 for a shadow.
    by : str
        Who does it, for the history.

    Raises
    ------
    UnknownName
        If the model has no such version.
    InputError
        If it is in production already, another rollout goes on, or ``percent`` is none.
    ModelError, CorruptData
        If its bundle cannot be loaded: nothing is changed.
    Conflict
        If somebody else put something in production, or began one, in the meantime.
    """
    stage = stage_of(percent)
    known = workshop.registry.get(model, version)
    if known is None:
        raise UnknownName(
            _("Model {model} has no version {version}.", model=model, version=version),
            _("Train one: feilun train {model}", model=model),
        )
    release = workshop.releases.current(model)
    if release is not None and release.bundle == known.bundle:
        raise InputError(
            _("Version {version} of {model} is in production already.",
              version=version, model=model)
        )  # fmt: skip
    newest = check_free(workshop, model)
    read_bundle(workshop.bundles, known.bundle)
    return workshop.releases.append_rollout(
        model,
        stage,
        version,
        known.bundle,
        percent=percent,
        salt=secrets.token_hex(SALT_BYTES),
        release=0 if release is None else release.sequence,
        after=0 if newest is None else newest.sequence,
        offset=workshop.log.end(),
        at=workshop.clock.now(),
        by=by,
    )


def check_free(workshop: Workshop, model: str) -> Rollout | None:
    """Return the newest entry about rollouts of a model, if none goes on.

    Raises
    ------
    InputError
        If one does.
    """
    newest = workshop.releases.rollout(model)
    other = going_on(newest, workshop.releases.current(model))
    if other is not None:
        raise InputError(
            _(
                "Version {version} of {model} is being rolled out.",
                version=other.version,
                model=model,
            ),
            _("Stop it first: feilun rollout stop {model}", model=model),
        )
    return newest


def move(
    releases: ReleaseHistory, log: EventLog, clock: Clock, *, model: str, percent: float, by: str
) -> Rollout:
    """Give the challenger to another share of the units; as it grows nobody loses it.

    Raises
    ------
    UnknownName
        If no rollout goes on.
    InputError
        If ``percent`` is no percentage.
    Conflict
        If somebody stopped or moved it, or put something in production, in the meantime.
    """
    return _append(
        releases, log, clock, model=model, stage=stage_of(percent), percent=percent, by=by
    )


def stop(releases: ReleaseHistory, log: EventLog, clock: Clock, *, model: str, by: str) -> Rollout:
    """End a rollout: from the next request on everybody gets what is in production.

    It needs neither the definitions nor the registry, which may be what is broken, and it is not
    overruled by one who moves the rollout at the same time.

    Raises
    ------
    UnknownName
        If no rollout goes on.
    """
    while True:
        try:
            return _append(releases, log, clock, model=model, stage="off", percent=0.0, by=by)
        except Conflict:  # moved a moment ago: stop what it has become, if it still goes on
            continue


def promote(workshop: Workshop, model: str, by: str) -> Release:
    """Put the challenger of a rollout in production, which ends the rollout.

    Raises
    ------
    UnknownName
        If no rollout goes on.
    """
    rollout = current(workshop.releases, model)
    return workshop.releases.append(
        model,
        rollout.version,
        rollout.bundle,
        action="promote",
        offset=workshop.log.end(),
        at=workshop.clock.now(),
        turn=None,
        by=by,
    )


def current(releases: ReleaseHistory, model: str) -> Rollout:
    """Return the rollout that goes on.

    Raises
    ------
    UnknownName
        If there is none.
    """
    rollout = going_on(releases.rollout(model), releases.current(model))
    if rollout is None:
        raise UnknownName(
            _("No version of {model} is being rolled out.", model=model),
            _("Begin one: feilun rollout start {model} VERSION --shadow", model=model),
        )
    return rollout


def await_followers(
    releases: ReleaseHistory,
    rollout: Rollout,
    clock: Clock,
    pause: Callable[[float], None],
    expected: int = 0,
) -> dict[str, Any]:
    """Wait until every live gateway worker, of ``expected`` at the least, acts on an entry.

    Returns
    -------
    dict
        ``serving`` and ``behind``: the names of workers that do, and that did not in time.
    """
    return wait_for(
        rollout.sequence,
        lambda since: releases.following(rollout.model, since),
        clock,
        pause,
        expected,
    )


def stage_of(percent: float) -> Stage:
    """Return the stage in which ``percent`` of the units get the challenger.

    Raises
    ------
    InputError
        If it is not between 0 and 100.

    Examples
    --------
    >>> stage_of(0), stage_of(2.5), stage_of(100)
    ('shadow', 'canary', 'full')
    """
    if not 0 <= percent <= 100:  # NaN is not either
        raise InputError(
            _("{percent} is not a percentage.", percent=percent), _("Give a number from 0 to 100.")
        )
    return "shadow" if percent == 0 else "full" if percent == 100 else "canary"


def _append(
    releases: ReleaseHistory,
    log: EventLog,
    clock: Clock,
    *,
    model: str,
    stage: Stage,
    percent: float,
    by: str,
) -> Rollout:
    rollout = current(releases, model)
    return releases.append_rollout(
        model,
        stage,
        rollout.version,
        rollout.bundle,
        percent=percent,
        salt=rollout.salt,
        release=rollout.release,
        after=rollout.sequence,
        offset=log.end(),
        at=clock.now(),
        by=by,
    )
