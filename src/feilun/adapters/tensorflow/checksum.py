"""CRC-32C, by which TensorFlow tells damaged variables; in NumPy, many bytes at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
_LENGTH = 256
_CHUNK = 4096 * _LENGTH * 4
_ALL = 0xFFFF_FFFF

Words = npt.NDArray[np.uint32]


def masked(data: memoryview | bytes) -> int:
    """Return the checksum of bytes as TensorFlow and LevelDB store it: turned, and something added.

    Examples
    --------
    >>> hex(masked(b"123456789"))
    '0xc78ab0e5'
    """
    found = crc(data)
    return ((found >> 15 | found << 17) + 0xA282EAD8) & _ALL


def crc(data: memoryview | bytes) -> int:
    """Return the CRC-32C of bytes.

    Examples
    --------
    >>> hex(crc(b"123456789")), crc(b"")
    ('0xe3069283', 0)
    """
    state = _ALL
    view = memoryview(data)
    for start in range(0, len(view), _CHUNK):
        state = _continued(view[start : start + _CHUNK], state)
    return state ^ _ALL


def _continued(data: memoryview, state: int) -> int:
    """Return the state after some bytes, which are cut in lanes that are gone through together."""
    if len(data) < 4:
        for byte in data:
            state = int(_BYTE[(state ^ byte) & 0xFF]) ^ state >> 8
        return state
    words = -(-len(data) // 4)
    length = min(_LENGTH, -(-words // 64))
    lanes = 1
    while lanes * length < words:
        lanes *= 2
    padded = np.zeros(lanes * length * 4, np.uint8)  # noughts before the first byte change nothing
    own = padded[-len(data) :]
    own[:] = np.frombuffer(data, np.uint8)
    own[:4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)
    states = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(padded.view("<u4").reshape(lanes, length).T):
        states ^= column
        states = _LOW[states & 0xFFFF] ^ _HIGH[states >> 16]
    shift: Words = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(length):
        shift = _LOW[shift & 0xFFFF] ^ _HIGH[shift >> 16]
    while len(states) > 1:
        states = _apply(shift, states[::2]) ^ states[1::2]
        shift = _apply(shift, shift)
    return int(states[0])


def _apply(shift: Words, states: Words) -> Words:
    """Return what becomes of some states."""
    found = np.zeros_like(states)
    for bit in range(32):
        found ^= np.where(states >> np.uint32(bit) & np.uint32(1), shift[bit], np.uint32(0))
    return found


def _after(states: Words, bits: int) -> Words:
    """Return what becomes of states by so many bits of nought."""
    for _ in range(bits):
        odd = states & np.uint32(1)
        states = states >> np.uint32(1) ^ odd * np.uint32(_POLYNOMIAL)
    return states


_BYTE = _after(np.arange(1 << 8, dtype=np.uint32), 8)
_LOW = _after(np.arange(1 << 16, dtype=np.uint32), 32)
_HIGH = _after(np.arange(1 << 16, dtype=np.uint32) << np.uint32(16), 32)
"""What becomes of each byte, and of each half of a word."""
