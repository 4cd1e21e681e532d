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

import typer  # noqa: E402  (its own messages are translated as it is imported)

from feilun.cli import (  # noqa: E402
    client,
    demo,
    encoders,
    erase,
    events,
    features,
    importing,
    lake,
    models,
    project,
    recover,
    rollout,
    run,
    sync,
    teams,
)

app = typer.Typer(
    help=_("Feilun turns scattered AI projects into one system that improves itself."),
    epilog=_(
        "Exit codes: 0 done; 1 failed at run time; 2 the command, the definitions or the settings "
        "are wrong; 3 not reachable or not available now. FEILUN_DEBUG=1 shows tracebacks."
    ),
    add_completion=False,
    rich_markup_mode=None,  # Rich takes 0.2 s to import, which is most of what --help may take
    pretty_exceptions_enable=False,
)
for group in (
    project, run, events, importing, sync, lake, erase, features, models, encoders, rollout, teams,
    recover, client, demo,
):  # fmt: skip
    group.register(app)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    debugging = bool(os.environ.get("FEILUN_DEBUG"))
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="feilun", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
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
    if hasattr(error, "format_message"):  # Typer's usage errors, whose class moves between releases
        complain(error.format_message(), _("feilun --help, or feilun COMMAND --help"))
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
