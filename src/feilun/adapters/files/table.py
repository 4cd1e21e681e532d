"""Reads a table from a CSV or Parquet file into plain columns."""

from __future__ import annotations

import codecs
import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from feilun.errors import InputError, MissingExtra
from feilun.i18n import _

Encoding = Literal["auto", "utf-8", "gb18030"]

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_table(
    path: Path,
    names: Sequence[str] | None = None,
    *,
    optional: Sequence[str] = (),
    encoding: Encoding = "auto",
    text: bool = False,
) -> dict[str, list[Any]]:
    """Read a file's columns.

    Parameters
    ----------
    path : Path
        A ``.parquet`` file; any other name is read as CSV with a header and commas.
    names : sequence of str, optional
        The columns to read; all of them if not given.
    optional : sequence of str
        More columns to read beside ``names``, if they are there.
    encoding : {"auto", "utf-8", "gb18030"}
        Of a CSV file. ``auto`` takes UTF-8 if every byte of the file fits it, else GB18030.
    text : bool
        Leave the cells of a CSV file as they are written, so that ``007`` stays ``007``;
        otherwise each column is int, float, bool or str, whatever fits all of it.

    Returns
    -------
    dict
        Column name to its values; None where a cell is empty. Times are ``datetime`` in Parquet
        and str in CSV.

    Raises
    ------
    InputError
        If the file cannot be read, is not what its name says, or lacks a column.
    MissingExtra
        If Polars is not installed.
    """
    pl = load_polars()
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            wanted = _wanted(path, list(pl.read_parquet_schema(path)), names, optional)
            frame = pl.read_parquet(path, columns=wanted)
        else:
            frame = pl.read_csv(
                _utf8(path, encoding), infer_schema=not text, infer_schema_length=None
            )
            frame = frame.select(_wanted(path, frame.columns, names, optional))
    except OSError as error:
        raise InputError(
            _("{path} cannot be read: {reason}.", path=path, reason=error.strerror or error)
        ) from error
    except pl.exceptions.NoDataError as error:
        raise InputError(
            _("{path} is empty.", path=path), _("Its first line must name the columns.")
        ) from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            _("{path} is not a table that can be read: {reason}.", path=path, reason=reason),
            _("Save it as Parquet, or as CSV with commas and a header line."),
        ) from error
    return {name: column.to_list() for name, column in frame.to_dict().items()}


def load_polars() -> Any:
    """Import Polars, or say how to install it."""
    try:
        return importlib.import_module("polars")
    except ImportError as error:
        raise MissingExtra("polars", "files") from error


def _utf8(path: Path, encoding: Encoding) -> bytes:
    """Return the file's bytes as UTF-8 without a byte order mark."""
    data = path.read_bytes()
    if data.startswith(_UTF16):
        raise InputError(
            _("{path} is UTF-16.", path=path), _("Save it as UTF-8 (in Excel: CSV UTF-8).")
        )
    candidates = ("utf-8", "gb18030") if encoding == "auto" else (encoding,)
    for candidate in candidates:
        try:
            decoded = data.decode(candidate)
        except UnicodeDecodeError:
            continue
        return decoded.removeprefix("\ufeff").encode()
    raise InputError(
        _("{path} is not {encodings} text.", path=path, encodings="/".join(candidates)),
        _("Save it as UTF-8 CSV, or as Parquet."),
    )


def _wanted(
    path: Path, found: Sequence[str], names: Sequence[str] | None, optional: Sequence[str]
) -> list[str]:
    """Return the columns to read, each once."""
    if names is None:
        return list(found)
    missing = [name for name in names if name not in found]
    if not missing:
        return list(dict.fromkeys([*names, *(name for name in optional if name in found)]))
    hints = [
        _("For {name}, did you mean {near}?", name=repr(name), near=repr(close[0]))
        for name in missing
        if (close := difflib.get_close_matches(name, found, n=1))
    ]
    listed = ", ".join(repr(name) for name in missing)
    raise InputError(
        _("{path} has no column {names}.", path=path, names=listed),
        " ".join([*hints, _("It has: {names}.", names=", ".join(found))]),
    )
