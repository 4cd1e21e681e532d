"""``[sources.NAME]`` of ``feilun.toml``: where the tables of a project are read from.

A value may name environment variables as ``${NAME}``, so that no password lies in a file. They
are looked up when the source is opened, and no message shows what was found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from feilun.errors import ConfigError
from feilun.i18n import _

Kind = Literal["sqlalchemy", "files", "iceberg"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEYS: Mapping[str, Mapping[str, type]] = {
    "sqlalchemy": {"url": str},
    "files": {"path": str, "encoding": str},
    "iceberg": {"catalog": dict},
}
_OPTIONAL = frozenset({"encoding"})
ENCODINGS = ("auto", "utf-8", "gb18030")
PLACE = "{table}"
"""What stands for the table's name in the path of files."""


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source, checked; variables are still names.

    Attributes
    ----------
    name : str
        What definitions call it.
    kind : {"sqlalchemy", "files", "iceberg"}
        Which adapter reads it.
    settings : mapping
        Its other keys.
    """

    name: str
    kind: Kind
    settings: Mapping[str, Any] = field(repr=False)

    def value(self, key: str, default: str = "") -> str:
        """Return a setting, with the variables that it names.

        Raises
        ------
        ConfigError
            If a variable is not set.
        """
        return self._filled(key, self.settings.get(key, default))

    def values(self, key: str) -> dict[str, str]:
        """Return the settings of a table within the source, with their variables.

        Raises
        ------
        ConfigError
            If a variable is not set.
        """
        return {
            name: self._filled(f"{key}.{name}", text) for name, text in self.settings[key].items()
        }

    def _filled(self, key: str, text: str) -> str:
        for name in _VARIABLE.findall(text):
            if name not in os.environ:
                raise ConfigError(
                    _(
                        "[sources.{source}] {key}: the environment variable {variable} is not set.",
                        source=self.name,
                        key=key,
                        variable=name,
                    ),
                    _("Set it where feilun starts: export {variable}=…", variable=name),
                )
        return _VARIABLE.sub(lambda found: os.environ[found[1]], text)


def read_sources(found: object, problems: list[str]) -> dict[str, SourceConfig]:
    """Check what stands under ``[sources]``; note what is wrong, and leave it out."""
    if not isinstance(found, dict):
        problems.append(
            _("sources must be tables: write [sources.warehouse] on a line of its own.")
        )
        return {}
    sources = {}
    for name, settings in found.items():
        noted = len(problems)
        _check(name, settings, problems)
        if len(problems) == noted:
            rest = {key: value for key, value in settings.items() if key != "type"}
            sources[name] = SourceConfig(name, settings["type"], rest)
    return sources


def _check(name: str, settings: object, problems: list[str]) -> None:
    where = f"[sources.{name}]"
    if not _NAME.fullmatch(name) or not isinstance(settings, dict):
        problems.append(
            _(
                "{where} must be a table, named with lower-case letters, digits and _.",
                where=where,
            )
        )
        return
    kind = settings.get("type", "")
    if kind not in _KEYS:
        problems.append(
            _(
                "{where} type must be one of {known}, not {value}.",
                where=where,
                known=", ".join(_KEYS),
                value=repr(kind),
            )
        )
        return
    keys = _KEYS[kind]
    for key, value in settings.items():
        if key != "type" and not _fits(value, keys.get(key)):
            known = _joined(keys)
            problems.append(_("{where} {key}: a {kind} source takes {known}.", where=where, key=key,
                              kind=kind, known=known))  # fmt: skip
    problems += [
        _("{where} needs {key}.", where=where, key=key)
        for key in keys
        if key not in _OPTIONAL and key not in settings
    ]
    if kind == "files" and PLACE not in str(settings.get("path", PLACE)):
        problems.append(
            _("{where} path must hold {place}, for the table's name.", where=where, place=PLACE)
        )
    if settings.get("encoding", "auto") not in ENCODINGS:
        problems.append(
            _("{where} encoding must be one of {known}.", where=where, known=_joined(ENCODINGS))
        )


def _fits(value: object, kind: type | None) -> bool:
    if kind is dict:
        return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    return kind is not None and isinstance(value, kind)


def _joined(words: Mapping[str, type] | Sequence[str]) -> str:
    return ", ".join(words)
