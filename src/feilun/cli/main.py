"""``feilun``: the commands, and what their errors look like.

Exit codes: 0 done; 1 failed at run time; 2 the command, the definitions or the settings are
wrong; 3 not reachable or not available now. ``docs/cli.md`` documents them.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from feilun.errors import (
    ConfigError,
    DefinitionError,
    FeilunError,
    InputError,
    MissingExtra,
    Unavailable,
)
from feilun.i18n import _, speak_through_libraries

speak_through_libraries()

import click  # noqa: E402  (it names types as commands are made, in that language)

from feilun.cli import (  # noqa: E402
    client,
    demo,
    encoders,
    erase,
    events,
    features,
    groups,
    importing,
    lake,
    models,
    project,
    recover,
    rollout,
    run,
    sync,
    teams,
    usage,
)


@click.group(
    "feilun",
    groups.InOrder,
    help=_("Feilun turns scattered AI projects into one system that improves itself."),
    epilog=_(
        "Exit codes: 0 done; 1 failed at run time; 2 the command, the definitions or the settings "
        "are wrong; 3 not reachable or not available now. FEILUN_DEBUG=1 shows tracebacks."
    ),
    context_settings={"show_default": True},
)
def app() -> None:
    """Hold all commands."""


for command in (
    project.init, project.check, project.version, run.up, run.serve, run.status, events.send,
    importing.import_file, sync.sync, lake.lake, lake.archive, erase.erase, features.features,
    features.rebuild, models.train, models.turn, models.adopt, models.history, models.rollback,
    usage.audit, recover.recover, client.client, demo.demo,
    events.group, encoders.group, rollout.group, teams.group,
):  # fmt: skip
    app.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    debugging = bool(os.environ.get("FEILUN_DEBUG"))
    try:
        code = app.main(sys.argv[1:] or ["--help"], "feilun", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        if debugging:
            raise
        code = explain(error)
    sys.exit(code or 0)


def explain(error: Exception) -> int:
    """Print an error as people should see it; return the exit code."""
    from feilun.app.terminal import complain

    if isinstance(error, FeilunError):
        complain(error.message, error.hint)
        return exit_code(error)
    if isinstance(error, click.ClickException):
        complain(error.format_message().expandtabs(4), _("feilun --help, or feilun COMMAND --help"))
        return 2
    complain(
        _("{kind}: {error}", kind=type(error).__name__, error=error),
        _("This is a fault of Feilun's; FEILUN_DEBUG=1 shows where."),
    )
    return 1


def exit_code(error: FeilunError) -> int:
    """Return the exit code that tells a script what kind of error it was."""
    if isinstance(error, Unavailable):
        return 3
    wrong = (ConfigError, DefinitionError, InputError, MissingExtra)
    return 2 if isinstance(error, wrong) else 1
