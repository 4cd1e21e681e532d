"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.app.config import Config

PATH = click.Path(path_type=Path)
"""A file or folder, which need not be there: whoever opens it says what is wrong with it."""
project_option = click.option(
    "--project",
    type=PATH,
    metavar="DIR",
    help=_("The project's folder; default: look upwards."),
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help=_("Print one JSON object, for scripts.")
)
port_option = click.option(
    "--port", type=click.IntRange(1, 65_535), help=_("Instead of feilun.toml's.")
)
clock_option = click.option("--clock", metavar="wall|request", help=_("Instead of feilun.toml's."))


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
