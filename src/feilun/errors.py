"""Every error that Feilun raises on purpose.

::

    FeilunError
    ├── DefinitionError    the project's definitions are wrong; every problem at once
    ├── ConfigError        feilun.toml, an option or the machine is not as it must be
    ├── InputError         what a caller sent cannot be used              (HTTP 400)
    │   ├── TooLarge       more bytes, items or depth than a cap allows   (HTTP 413)
    │   ├── UnknownName    no such event, view, capability or model       (HTTP 404)
    │   └── Conflict       the same id came before with another body      (HTTP 409)
    ├── Unavailable        cannot be answered now; trying again may help  (HTTP 503)
    │   ├── StoreFull      the disk or the byte quota is used up
    │   ├── StoreStopped   the disk failed, or the store's folder was taken away
    │   ├── Behind         the asked-for offset was not folded in time
    │   ├── TooLate        the caller's own deadline has passed          (HTTP 504)
    │   └── NoModel        no version of the model is in production
    ├── CorruptData        stored bytes fail their check
    ├── ModelError         a model cannot be trained, converted, loaded or scored
    │   └── WrongColumns   it takes other columns than it is to be given
    ├── Fenced             another controller holds the turn now
    └── MissingExtra       an optional library is not installed

Each carries a message that says what failed and where, and a ``hint`` that says what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FeilunError(Exception):
    """The root of the tree: catch it to catch everything that Feilun raises on purpose.

    Parameters
    ----------
    message : str
        What failed, and where.
    hint : str
        What to do next; empty where there is nothing to add.
    """

    status = 500
    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a project's definitions."""

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.fix}".strip()


class DefinitionError(FeilunError):
    """The definitions are wrong. ``problems`` lists everything that is, not only the first."""

    code = "definition"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigError(FeilunError):
    """``feilun.toml``, a command's option or the machine is not as it must be."""

    code = "config"


class InputError(FeilunError):
    """What a caller sent cannot be used; sending it again unchanged will not help."""

    status = 400
    code = "bad_input"


class TooLarge(InputError):
    """More bytes, items or depth than a cap allows."""

    status = 413
    code = "too_large"


class UnknownName(InputError):
    """No event, view, capability, model or feature has that name."""

    status = 404
    code = "unknown_name"


class Conflict(InputError):
    """The same id came before with another body."""

    status = 409
    code = "conflict"


class Unavailable(FeilunError):
    """The request is right but cannot be answered now."""

    status = 503
    code = "unavailable"


class StoreFull(Unavailable):
    """The disk or the store's byte quota is used up; reads go on."""

    code = "store_full"


class StoreStopped(Unavailable):
    """Nothing is written: the disk failed, or the folder was taken away; reads go on."""


class Behind(Unavailable):
    """The engine has not folded the asked-for offset before the deadline."""

    code = "behind"


class TooLate(Unavailable):
    """The time that the caller gave is over; what was begun may still be kept."""

    status = 504
    code = "too_late"


class NoModel(Unavailable):
    """No version of the model is in production."""

    code = "no_model"


class CorruptData(FeilunError):
    """Stored bytes fail their check. They are kept as they are: nothing is guessed."""

    code = "corrupt_data"


class ModelError(FeilunError):
    """A model cannot be trained, converted, loaded or scored."""

    code = "model"


class WrongColumns(ModelError):
    """A model takes another number of columns; ``names`` is what it calls them, if it does."""

    def __init__(self, found: int, columns: int, names: Sequence[str] = ()) -> None:
        self.found = found
        self.names = tuple(names)
        listed = f" ({', '.join(names)})" if names else ""
        super().__init__(f"The model takes {found} columns{listed}, not {columns}.")


class Fenced(FeilunError):
    """Another controller has taken this turn over; the caller must stop."""

    status = 409
    code = "fenced"


class MissingExtra(FeilunError):
    """An optional library is not installed; the hint is the command that installs it."""

    code = "missing_extra"

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"{library} is not installed.", f'Install it with: pip install "feilun[{extra}]"'
        )
