"""What goes through the pipe or the socket between those who ask and a worker.

A frame is the length of its header (4 bytes, little-endian), the header as MessagePack, and as many
bytes as the header says.
"""

from __future__ import annotations

import struct

import msgspec

from feilun.errors import ModelError

MAX_HEADER = 64 << 10
MAX_PAYLOAD = 1 << 30
LENGTH = struct.Struct("<I")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bytes behind it are.

    A model, or a matrix for it; texts for the ``encoder`` of a digest; scores or vectors; or the
    reason why there are none, which trying ``later`` may help.
    """

    bytes: int
    columns: int = 0
    error: str = ""
    encoder: str = ""
    later: bool = False


def pack(header: Header) -> bytes:
    """Return the beginning of a frame."""
    text = msgspec.msgpack.encode(header)
    return LENGTH.pack(len(text)) + text


def unpack(text: bytes) -> Header:
    """Return a header.

    Raises
    ------
    ModelError
        If it is none.
    """
    try:
        header = msgspec.msgpack.decode(text, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"The model's worker said something else: {error}.") from error
    if not 0 <= header.bytes <= MAX_PAYLOAD:
        raise ModelError("The model's worker said something of an impossible size.")
    return header
