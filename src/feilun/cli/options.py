"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.app.config import Config

ProjectFolder = Annotated[
    Path | None,
    typer.Option(
        "--project", metavar="DIR", help=_("The project's folder; default: look upwards.")
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help=_("Print one JSON object, for scripts."))]
Port = Annotated[
    int | None, typer.Option("--port", min=1, max=65_535, help=_("Instead of feilun.toml's."))
]
ClockName = Annotated[
    str | None,
    typer.Option("--clock", metavar="wall|request", help=_("Instead of feilun.toml's.")),
]


def configured(project: Path | None, port: int | None = None, clock: str | None = None) -> Config:
    """Return the project's settings, with what the command line says instead.

    Raises
    ------
    ConfigError
        If there is no project, or something in it is wrong.
    """
    from feilun.app.config import find, load

    instead = {"port": port, "clock": clock}
    given = {key: value for key, value in instead.items() if value is not None}
    return load(find(Path.cwd()) if project is None else project, **given)
