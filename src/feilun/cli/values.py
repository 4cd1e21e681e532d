"""Values as people type them: ``name=value``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from feilun.errors import InputError
from feilun.i18n import _

Scalar = int | float | str | bool

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def pairs_of(words: Iterable[str]) -> dict[str, str]:
    """Take ``name=value`` words apart.

    Examples
    --------
    >>> pairs_of(["user_id=7", "note=a=b"])
    {'user_id': '7', 'note': 'a=b'}

    Raises
    ------
    InputError
        If a word has no ``=``, or a name comes twice.
    """
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(_("{word} is not NAME=VALUE.", word=repr(word)), "user_id=1")
        if name in pairs:
            raise InputError(_("{name} is given twice.", name=name))
        pairs[name] = value
    return pairs


def typed(pairs: Mapping[str, str], dtypes: Mapping[str, str]) -> dict[str, Scalar]:
    """Give each value its declared type.

    Examples
    --------
    >>> typed({"user_id": "7", "code": "007"}, {"user_id": "int", "code": "str"})
    {'user_id': 7, 'code': '007'}

    Raises
    ------
    InputError
        If a name is unknown, or a value is not of its type.
    """
    return {name: _value(name, text, _dtype(name, dtypes)) for name, text in pairs.items()}


def _dtype(name: str, dtypes: Mapping[str, str]) -> str:
    if name not in dtypes:
        close = difflib.get_close_matches(name, dtypes, n=1)
        hint = (
            _("Did you mean {name}?", name=repr(close[0]))
            if close
            else _("Known: {names}.", names=", ".join(dtypes))
        )
        raise InputError(_("There is no field {name}.", name=repr(name)), hint)
    return dtypes[name]


def _value(name: str, text: str, dtype: str) -> Scalar:
    try:
        if dtype == "int":
            return int(text)
        if dtype == "float":
            return float(text)
        if dtype == "bool":
            return _BOOLEANS[text.lower()]
    except (ValueError, KeyError) as error:
        raise InputError(
            _("{name}={text} is not of type {dtype}.", name=name, text=text, dtype=dtype)
        ) from error
    return text
