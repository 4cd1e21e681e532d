"""The ZIP archives that PyTorch writes, and the weights in them."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_UNPACKED = 1 << 30


def read_files(
    data: bytes, wanted: re.Pattern[str], squeezed: re.Pattern[str] | None = None
) -> dict[str, bytes]:
    """Return an archive's ``wanted`` files by their names without the common folder.

    Only the ``squeezed`` may be compressed. They count by what is in them, so a small file cannot
    stand for one beyond ``MAX_UNPACKED``.

    Raises
    ------
    ValueError, zipfile.BadZipFile
        If the archive is damaged, too large, or compressed.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        require(sum(entry.file_size for entry in entries) <= MAX_UNPACKED, "it is too large")
        names = [entry.filename.partition("/")[2] for entry in entries]
        require(len(set(names)) == len(names), "a file comes twice")
        kept = [pair for pair in zip(names, entries, strict=True) if wanted.fullmatch(pair[0])]
        for name, entry in kept if squeezed else zip(names, entries, strict=True):
            stored = entry.compress_type == zipfile.ZIP_STORED
            require(stored or bool(squeezed and squeezed.fullmatch(name)), "it is compressed")
        return {name: archive.read(entry) for name, entry in kept}


def strided(
    data: bytes, dtype: str, shape: Sequence[Any], strides: Sequence[Any], start: Any
) -> npt.NDArray[Any]:
    """Return the tensor that lies in a storage's bytes, from element ``start`` on.

    Raises
    ------
    ValueError
        If it does not.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    sizes, steps = [_whole(size) for size in shape], [_whole(stride) for stride in strides]
    flat = np.frombuffer(data, kind)
    if 0 in sizes:
        return np.empty(sizes, kind)
    last = _whole(start) + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    require(last < len(flat), "a weight is cut off")
    # Strides of nought would make much of little.
    require(math.prod(sizes) <= len(flat), "a weight is larger than its bytes")
    apart = [step * kind.itemsize for step in steps]
    return np.lib.stride_tricks.as_strided(flat[start:], sizes, apart).copy()


def _whole(value: Any) -> int:
    require(type(value) is int and 0 <= value < 1 << 40, "a size is no whole number")
    return int(value)


def require(condition: bool, reason: str) -> None:
    """Raise ``ValueError`` with the reason unless the condition holds."""
    if not condition:
        raise ValueError(reason)
