"""Everything that is wrong with a project, gathered before anything is said."""

from __future__ import annotations

import re
from collections.abc import Iterable

from feilun.definitions.sites import Site
from feilun.errors import Problem

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")

READ_OPTIONS = frozenset({"min_offset", "as_of", "personalised"})
"""Parameters that every read of the API has: nothing of the user's may be called so."""


class Problems:
    """A list that grows while the definitions are being looked at."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, where: str, what: str, fix: str) -> None:
        """Note one problem."""
        self.found.append(Problem(where, what, fix))

    def check_name(self, where: str, name: object) -> bool:
        """Note what is wrong with a name, if anything; return whether it is right."""
        if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name):
            self.add(
                where,
                f"{name!r} is not a name that APIs and stores can use.",
                "Start with a lower-case letter; go on with lower-case letters, digits and _; "
                "63 at most.",
            )
            return False
        if name.startswith("feilun"):
            self.add(where, f"{name!r} is kept for the system.", "Begin it with another word.")
            return False
        return True

    def check_unique(self, named: Iterable[tuple[str, str]], kind: str) -> None:
        """Note each name that comes more than once among (name, where)."""
        first: dict[str, str] = {}
        for name, where in named:
            if name in first:
                self.add(
                    where,
                    f"there is another {kind} named {name!r}, at {first[name]}.",
                    "Rename one of them.",
                )
            else:
                first[name] = where


def located(site: Site, name: str) -> str:
    """Write where something is: file, line and name."""
    return f"{site} {name}"


def shown(value: object) -> str:
    """Write a value as the user's file does: a class by its name."""
    return value.__name__ if isinstance(value, type) else repr(value)


def nearest(name: object, known: Iterable[str]) -> str:
    """Return a hint at the known name that was probably meant, or at all of them.

    Examples
    --------
    >>> nearest("usr_id", ["user_id", "item_id"])
    "Did you mean 'user_id'?"
    >>> nearest("colour", ["user_id", "item_id"])
    'There are: item_id, user_id.'
    """
    from difflib import get_close_matches

    names = sorted(known)
    close = get_close_matches(str(name), names, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"There are: {', '.join(names)}." if names else "There are none."
