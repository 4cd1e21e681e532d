"""The folder of a SavedModel as one file: what is needed of it, in a ZIP archive."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from feilun.errors import InputError, ModelError
from feilun.i18n import _

GRAPH = "saved_model.pb"
ASSETS = "assets/"
TEXTS = "texts.json"
"""The file that is added: the texts that codes stand for, by the places of their columns."""
_NEEDED = re.compile(
    r"saved_model\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})|assets/[^/\0]+"
)


def pack(folder: Path, cap: int, texts: Mapping[int, Sequence[str]] | None = None) -> bytes:
    """Return a SavedModel's folder as one file; the same for the same folder.

    Parameters
    ----------
    folder : Path
        The folder of ``saved_model.pb``.
    cap : int
        The most bytes that may be in it.
    texts : mapping, optional
        By the place of a column the texts that its codes stand for, for inputs that take texts.

    Raises
    ------
    InputError
        If a file cannot be read.
    ModelError
        If it has more than ``cap`` bytes, or a file of it lies elsewhere.
    """
    root = folder.resolve()
    buffer = io.BytesIO()
    size = 0
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(each for place in (".", "variables", "assets")
                           for each in (folder / place).glob("*")):  # fmt: skip
            name = path.relative_to(folder).as_posix()
            if not _NEEDED.fullmatch(name) or not path.is_file():
                continue
            if not path.resolve().is_relative_to(root):
                raise ModelError(
                    _("{path} is a link to a file outside of its folder.", path=path),
                    _("Copy the folder with the files themselves."),
                )
            try:
                with path.open("rb") as file:
                    data = file.read(cap - size + 1)
            except OSError as error:
                raise InputError(
                    _("{path} cannot be read: {reason}.", path=path, reason=error.strerror)
                ) from error
            size += len(data)
            if size > cap:
                raise ModelError(
                    _("{path} has more than {cap} bytes.", path=folder, cap=cap),
                    _("Serve it as an endpoint of its own, or make it smaller."),
                )
            archive.writestr(zipfile.ZipInfo(name), data)  # of 1980, whenever it is packed
        if texts:
            archive.writestr(zipfile.ZipInfo(TEXTS), json.dumps(texts, ensure_ascii=False))
    return buffer.getvalue()


def unpack(data: bytes, *wanted: str) -> dict[str, bytes]:
    """Return the files of a SavedModel by their names in its folder; all if none is named.

    Raises
    ------
    ValueError, zipfile.BadZipFile
        If the archive is damaged or compressed, or holds something else.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if len({entry.filename for entry in entries}) != len(entries):
            raise ValueError("a file comes twice")
        for entry in entries:
            known = _NEEDED.fullmatch(entry.filename) or entry.filename == TEXTS
            if entry.compress_type != zipfile.ZIP_STORED or not known:
                raise ValueError("it is no archive that feilun made; adopt the folder itself")
        names = wanted or [entry.filename for entry in entries]
        return {name: archive.read(name) for name in names}
