"""What commands share that change what is served: they wait until the gateway has taken it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.app.config import Config
    from feilun.flywheel.workshop import Workshop
    from feilun.ports.releases import Release


def workers_expected(config: Config) -> int:
    """Return how many workers there should be: all of a gateway that runs, or none."""
    from feilun.app.locks import holder

    return 0 if holder(config.run_path, "gateway") is None else config.workers


def await_release(config: Config, workshop: Workshop, release: Release) -> int:
    """Wait until the gateway serves a release, and say how far it is; 3 if not all of it does."""
    from feilun.app.terminal import complain, say
    from feilun.flywheel.release import await_workers, tell_registry

    expected = workers_expected(config)
    found = await_workers(workshop, release, expected)
    say(
        _(
            "{model} version {version} is in production.",
            model=release.model,
            version=release.version,
        )
    )
    code = complain_of(found, expected)
    if problem := tell_registry(workshop, release):
        complain(
            _("MLflow does not know yet what is in production: {reason}", reason=problem),
            _("It is for people to look at; the gateway does without it."),
        )
    return code


def complain_of(found: dict[str, Any], expected: int) -> int:
    """Say which workers of a gateway that runs have not followed; return the exit code."""
    from feilun.app.terminal import complain

    behind, serving = found["behind"], len(found["serving"])
    if behind:
        what = _("These workers do not follow yet: {names}.", names=", ".join(behind))
    elif serving < expected:
        what = _(
            "The gateway runs, and {serving} of its {workers} workers are known to follow.",
            serving=serving,
            workers=expected,
        )
    else:
        return 0
    complain(
        what,
        _(
            "It is written down, and they take it up as soon as they can: feilun status says why "
            "they cannot. To be sure at once, stop the gateway."
        ),
    )
    return 3
