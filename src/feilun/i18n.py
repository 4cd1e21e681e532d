"""What people read, in their language: English, or Chinese where the environment asks for it.

Logs, names, docstrings and the errors of the HTTP API stay English; ``/docs`` has its own words in
the language of who reads it. ``tools/update_messages.py``
gathers the messages; ``locale/`` holds their translations.
"""

from __future__ import annotations

import gettext
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

DOMAIN = "feilun"
LOCALE = Path(__file__).parent / "locale"
_QUALITY = re.compile(r"q=([01](?:\.\d{0,3})?)", re.ASCII)
_LONGEST_HEADER = 500


def language(environment: Mapping[str, str] = os.environ) -> str:
    """Return the language to speak: ``en`` or ``zh_CN``.

    The first variable that is set decides, in gettext's order: LANGUAGE (a list), LC_ALL,
    LC_MESSAGES, LANG. Every kind of Chinese is answered in zh_CN.

    Examples
    --------
    >>> language({"LANG": "zh_CN.UTF-8"})
    'zh_CN'
    >>> language({"LANGUAGE": "en_GB:zh_CN", "LANG": "zh_CN.UTF-8"})
    'en'
    >>> language({"LANG": "de_DE.UTF-8"})
    'en'
    """
    for variable in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(variable):
            for name in value.split(":"):
                if name.startswith("zh"):
                    return "zh_CN"
                if name.startswith(("en", "C", "POSIX")):
                    return "en"
            return "en"
    return "en"


def _(message: str, /, **values: Any) -> str:
    """Return ``message`` in the user's language, with ``{name}`` replaced by ``values``.

    Examples
    --------
    >>> _("{count} of {total}", count=1, total=2)
    '1 of 2'
    """
    text = _translations(language()).gettext(message)
    return text.format(**values) if values else text


def marked(message: str) -> str:
    """Return ``message`` as it is: it is translated where it is shown, by ``translate``."""
    return message


def translate(message: str, chosen: str, **values: Any) -> str:
    """Return ``message`` in a language that is not the environment's, but a reader's.

    Examples
    --------
    >>> translate("Options", "zh_CN"), translate("Options", "en")
    ('选项', 'Options')
    """
    text = _translations(chosen).gettext(message) if message else ""
    return text.format(**values) if values else text


def accepted(header: str) -> str:
    """Return the language of an ``Accept-Language`` header: what it likes better of the two.

    Examples
    --------
    >>> accepted("zh-CN,zh;q=0.9,en;q=0.8"), accepted("en-GB,zh;q=0.5"), accepted("")
    ('zh_CN', 'en', 'en')
    """
    liked = {"en": 0.0, "zh": 0.0}
    for part in header[:_LONGEST_HEADER].split(","):
        name, *parameters = part.strip().lower().split(";")
        name = name.partition("-")[0]
        if name in liked:
            liked[name] = max(liked[name], _quality(parameters))
    return "zh_CN" if liked["zh"] > liked["en"] else "en"


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        match = _QUALITY.fullmatch(parameter.strip())
        if match:
            return float(match[1])
    return 1.0


def speak_through_libraries() -> None:
    """Let libraries that ask Python's global gettext (Click) find their messages here too."""
    chosen = language()
    if chosen != "en":
        os.environ["LANGUAGE"] = chosen
        gettext.bindtextdomain(DOMAIN, LOCALE)
        gettext.textdomain(DOMAIN)


@cache
def _translations(chosen: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, LOCALE, languages=[chosen], fallback=True)
