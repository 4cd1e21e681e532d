"""Reads safetensors: a JSON header of names, types, shapes and places, then the numbers.

Source of the format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from feilun.errors import ModelError

MAX_HEADER = 16 << 20

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


class _Tensor(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_safetensors(data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Return the tensors of floats in a file, as float32; others are left out.

    Raises
    ------
    ModelError
        If it is damaged.
    """
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= min(MAX_HEADER, len(data) - 8):
        raise ModelError("This is no safetensors file: its header has an impossible size.")
    try:
        header = msgspec.json.decode(data[8 : 8 + size], type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        tensors = {
            name: msgspec.json.decode(raw, type=_Tensor, strict=True)
            for name, raw in header.items()
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"This is no safetensors file: {error}.") from error
    numbers = memoryview(data)[8 + size :]
    return {
        name: _floats(name, each, numbers)
        for name, each in tensors.items()
        if each.dtype in _TYPES or each.dtype == "BF16"
    }


def _floats(name: str, tensor: _Tensor, numbers: memoryview) -> npt.NDArray[np.float32]:
    start, end = tensor.data_offsets
    kind = np.dtype(_TYPES.get(tensor.dtype, "<u2"))
    count = 1
    for size in tensor.shape:
        count *= size
    sound = 0 <= start <= end <= len(numbers) and min(tensor.shape, default=0) >= 0
    if not sound or end - start != count * kind.itemsize:
        raise ModelError(f"The tensor {name[:80]} lies outside the file, or is of another size.")
    found = np.frombuffer(numbers[start:end], kind).reshape(tensor.shape)
    if tensor.dtype == "BF16":  # the upper half of a float32
        return (found.astype(np.uint32) << 16).view(np.float32)
    return found.astype(np.float32)
