"""What commands that are audited share: the store, who acts, and how a team is found."""

from __future__ import annotations

import difflib
import getpass
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from feilun.errors import UnknownName
from feilun.i18n import _

if TYPE_CHECKING:
    from feilun.app.config import Config
    from feilun.ports.teams import Directory, Team, TeamStore


@contextmanager
def opened(config: Config) -> Iterator[TeamStore]:
    """Open the teams of a project, for as long as the ``with`` lasts."""
    from feilun.app import compose
    from feilun.app.config import prepare_data

    prepare_data(config)
    with closing(compose.teams(config)) as store:
        yield store


def acting() -> str:
    """Return who runs the command, for the audit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number alone
        return f"uid {os.getuid()}"


def find(known: Directory, name: str, *, revoked_too: bool = False) -> Team:
    """Return a team.

    Raises
    ------
    UnknownName
        If there is none of that name, or it is revoked and that does not do.
    """
    teams = {team.name: team for team in known.teams if revoked_too or team.revoked is None}
    if name not in teams:
        raise UnknownName(
            _("There is no team {name}.", name=repr(name)),
            near(name, list(teams)) if teams else _("feilun team add"),
        )
    return teams[name]


def near(name: str, known: Sequence[str]) -> str:
    """Return a hint at the known name that was probably meant, or at all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return _("Did you mean {name}?", name=repr(close[0]))
    return _("Known: {names}.", names=", ".join(known))
