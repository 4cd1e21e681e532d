# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""BLAKE2b of many short values at once, in compiled code. Source: RFC 7693.

A hash object for each value costs more than the hash: making, feeding, asking and freeing it. Here
all values of a list begin with the same bytes and are hashed in one call. ``hashing`` has the way
without, which gives the same.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    BLOCK = 128
    WORDS = 16
    ROUNDS = 12
    MOST_BYTES = 64

cdef uint64_t[8] START = [  # RFC 7693, 2.6
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
]
cdef uint8_t[ROUNDS][WORDS] ORDER = [  # of a block's words in each round: RFC 7693, 2.7
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
]

cdef struct State:
    uint64_t[8] words
    uint8_t[BLOCK] block  # what was fed and not yet mixed in: the last block is mixed in otherwise
    Py_ssize_t filled
    uint64_t mixed  # bytes


cdef inline uint64_t turned(uint64_t word, int bits) noexcept nogil:
    return word >> bits | word << (64 - bits)


cdef inline void mix(
    uint64_t* v, int a, int b, int c, int d, uint64_t x, uint64_t y
) noexcept nogil:
    v[a] += v[b] + x
    v[d] = turned(v[d] ^ v[a], 32)
    v[c] += v[d]
    v[b] = turned(v[b] ^ v[c], 24)
    v[a] += v[b] + y
    v[d] = turned(v[d] ^ v[a], 16)
    v[c] += v[d]
    v[b] = turned(v[b] ^ v[c], 63)


cdef void compress(State* state, bint last) noexcept nogil:
    """Mix the block in: RFC 7693, 3.2."""
    cdef uint64_t[WORDS] v
    cdef uint64_t[WORDS] m
    cdef const uint8_t* s
    cdef int at
    state.mixed += state.filled
    memcpy(m, state.block, BLOCK)
    memcpy(v, state.words, 64)
    memcpy(v + 8, START, 64)
    v[12] ^= state.mixed
    if last:
        v[14] = ~v[14]
    for at in range(ROUNDS):
        s = ORDER[at]
        mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]])
        mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]])
        mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]])
        mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]])
        mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]])
        mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]])
        mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]])
        mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]])
    for at in range(8):
        state.words[at] ^= v[at] ^ v[at + 8]
    state.filled = 0


cdef void feed(State* state, const char* data, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t part
    while size:
        if state.filled == BLOCK:
            compress(state, False)
        part = min(size, BLOCK - state.filled)
        memcpy(state.block + state.filled, data, part)
        state.filled += part
        data += part
        size -= part


cdef feed_value(State* state, value):
    cdef char* data
    cdef Py_ssize_t size
    if isinstance(value, str):
        data = <char*>PyUnicode_AsUTF8AndSize(value, &size)
    else:
        PyBytes_AsStringAndSize(value, &data, &size)
    feed(state, data, size)


def digests(bytes begun, list values, Py_ssize_t size):
    """Return the hashes of ``begun`` and each value, ``size`` bytes each, one after another."""
    cdef State start, state
    cdef char* into
    if not 0 < size <= MOST_BYTES:
        raise ValueError(f"digest_size must be between 1 and {MOST_BYTES} bytes")
    memcpy(start.words, START, sizeof(START))
    start.words[0] ^= 0x01010000 ^ <uint64_t>size  # RFC 7693, 2.5: no key
    start.filled = 0
    start.mixed = 0
    feed_value(&start, begun)
    found = PyBytes_FromStringAndSize(NULL, len(values) * size)
    into = PyBytes_AS_STRING(found)
    for value in values:
        state = start
        feed_value(&state, value)
        memset(state.block + state.filled, 0, BLOCK - state.filled)
        compress(&state, True)
        memcpy(into, state.words, size)
        into += size
    return found
