# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Compiled loops over the rows of a batch; each has a way without, which gives the same.

``digests`` is BLAKE2b (RFC 7693) of many short values. A hash object for each costs more than the
hash: making, feeding, asking and freeing it. Here eight values are hashed side by side, a lane
each, which processors with wide registers do in little more time than one; ``hashing`` has the way
without. ``plain`` looks through bodies of MessagePack; ``columns`` has the way without.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    #define LANES 8
    typedef uint64_t Lanes __attribute__((vector_size(8 * LANES)));

    /* Compiled twice, and chosen when the module is loaded: some registers hold eight words. */
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
    #define FOR_WIDE_REGISTERS_TOO __attribute__((target_clones("avx512f", "default")))
    #else
    #define FOR_WIDE_REGISTERS_TOO
    #endif

    /* RFC 7693, 2.6. */
    static const uint64_t START[8] = {
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    };
    /* The order of a block's words in each round: RFC 7693, 2.7. */
    static const uint8_t ORDER[12][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
        {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
        {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
        {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
        {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    };

    #define TURNED(word, bits) ((word) >> (bits) | (word) << (64 - (bits)))
    /* RFC 7693, 3.1. */
    #define MIX(a, b, c, d, x, y) \\
        a += b + x; d = TURNED(d ^ a, 32); c += d; b = TURNED(b ^ c, 24); \\
        a += b + y; d = TURNED(d ^ a, 16); c += d; b = TURNED(b ^ c, 63);

    /* Mix a block into the words of each lane: RFC 7693, 3.2. `mixed` is how many bytes there are
       with it, and `last` all ones in a lane whose last block it is. */
    FOR_WIDE_REGISTERS_TOO static void compress(
        uint64_t words[8][LANES], uint64_t block[16][LANES],
        uint64_t mixed[LANES], uint64_t last[LANES]
    ) {
        Lanes h[8], m[16], v[16], more;
        const uint8_t *s;
        int at;
        memcpy(h, words, sizeof h);
        memcpy(m, block, sizeof m);
        for (at = 0; at < 8; at++) {
            v[at] = h[at];
            v[at + 8] = (Lanes){0} + START[at];
        }
        memcpy(&more, mixed, sizeof more);
        v[12] ^= more;
        memcpy(&more, last, sizeof more);
        v[14] ^= more;
        for (at = 0; at < 12; at++) {
            s = ORDER[at];
            MIX(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]])
            MIX(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]])
            MIX(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]])
            MIX(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]])
            MIX(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]])
            MIX(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]])
            MIX(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]])
            MIX(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]])
        }
        for (at = 0; at < 8; at++) h[at] ^= v[at] ^ v[at + 8];
        memcpy(words, h, sizeof h);
    }
    """
    enum:
        LANES
    const uint64_t[8] START
    void compress(
        uint64_t[8][LANES] words,
        uint64_t[16][LANES] block,
        uint64_t[LANES] mixed,
        uint64_t[LANES] last,
    ) noexcept nogil

cdef enum:
    BLOCK = 128
    MOST_BYTES = 64

cdef struct Part:
    const char* data
    Py_ssize_t size


cdef Part part_of(value) except *:
    cdef Part part
    cdef char* data
    if isinstance(value, str):
        part.data = PyUnicode_AsUTF8AndSize(value, &part.size)
    else:
        PyBytes_AsStringAndSize(value, &data, &part.size)
        part.data = data
    return part


cdef void cut(const Part* part, Py_ssize_t at, char* block, Py_ssize_t into) noexcept nogil:
    """Put into a block what of ``part`` lies in it, if the part began at byte ``into`` of it."""
    cdef Py_ssize_t first = max(at, into), end = min(at + BLOCK, into + part.size)
    if first < end:
        memcpy(block + first - at, part.data + first - into, end - first)


cdef void hash_few(
    const Part* begun, const Part* values, int count, Py_ssize_t size, char* found
) noexcept nogil:
    """Hash up to ``LANES`` values side by side."""
    cdef uint64_t[8][LANES] words
    cdef uint64_t[16][LANES] block
    cdef uint64_t[LANES] mixed
    cdef uint64_t[LANES] last
    cdef uint64_t[16] own
    cdef Py_ssize_t at = 0, length, longest = 0
    cdef int lane, word
    memset(block, 0, sizeof(block))
    for word in range(8):
        for lane in range(LANES):
            words[word][lane] = START[word]
            if word == 0:
                words[word][lane] ^= 0x01010000 ^ <uint64_t>size  # no key: RFC 7693, 2.5
    for lane in range(count):
        longest = max(longest, begun.size + values[lane].size)
    while at == 0 or at < longest:
        for lane in range(count):
            memset(own, 0, BLOCK)
            cut(begun, at, <char*>own, 0)
            cut(&values[lane], at, <char*>own, begun.size)
            for word in range(16):
                block[word][lane] = own[word]
            length = begun.size + values[lane].size
            mixed[lane] = min(at + BLOCK, length)
            last[lane] = <uint64_t>-1 if length <= at + BLOCK else 0
        compress(words, block, mixed, last)
        for lane in range(count):
            length = begun.size + values[lane].size
            if length <= at + BLOCK and (at == 0 or at < length):
                for word in range(8):
                    own[word] = words[word][lane]
                memcpy(found + lane * size, own, size)
        at += BLOCK


def digests(bytes begun, list values, Py_ssize_t size):
    """Return the hashes of ``begun`` and each value, ``size`` bytes each, one after another."""
    cdef Part[LANES] few
    cdef Part start = part_of(begun)
    cdef int count = 0
    cdef char* into
    if not 0 < size <= MOST_BYTES:
        raise ValueError(f"digest_size must be between 1 and {MOST_BYTES} bytes")
    found = PyBytes_FromStringAndSize(NULL, len(values) * size)
    into = PyBytes_AS_STRING(found)
    for value in values:
        few[count] = part_of(value)
        count += 1
        if count == LANES:
            hash_few(&start, few, count, size, into)
            into += count * size
            count = 0
    if count:
        hash_few(&start, few, count, size, into)
    return found


cdef inline Py_ssize_t number(const uint8_t* at, int bytes) noexcept nogil:
    """Return a length: big-endian, up to four bytes."""
    cdef Py_ssize_t value = 0
    cdef int place
    for place in range(bytes):
        value = value << 8 | at[place]
    return value


cdef const uint8_t* after(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Return where the next value begins, or NULL if this one is cut short or holds others."""
    cdef Py_ssize_t left = end - at, size = 1
    cdef int head, width = 0
    if left < 1:
        return NULL
    head = at[0]
    if 0xA0 <= head <= 0xBF:  # a short str
        size += head & 0x1F
    elif 0xC4 <= head <= 0xC6:  # bin
        width = 1 << (head - 0xC4)
    elif 0xCA <= head <= 0xCB:  # float
        size += 4 << (head - 0xCA)
    elif 0xCC <= head <= 0xD3:  # int
        size += 1 << (head - 0xCC & 3)
    elif 0xD9 <= head <= 0xDB:  # str
        width = 1 << (head - 0xD9)
    elif not (head <= 0x7F or head >= 0xE0 or head in (0xC0, 0xC2, 0xC3)):  # small, nil, bool
        return NULL
    if left <= width:
        return NULL
    size += width + number(at + 1, width)
    return at + size if size <= left else NULL


cdef bint is_plain(const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef Py_ssize_t count
    if end - at >= 1 and 0x90 <= at[0] <= 0x9F:
        count = at[0] & 0x0F
        at += 1
    elif end - at >= 3 and at[0] == 0xDC:
        count = number(at + 1, 2)
        at += 3
    else:
        return False
    while count and at != NULL:
        at = after(at, end)
        count -= 1
    return at == end


def plain(list bodies):
    """Whether each body is one MessagePack array of values that hold no others."""
    cdef Part part
    for body in bodies:
        part = part_of(body)
        if not is_plain(<const uint8_t*>part.data, <const uint8_t*>part.data + part.size):
            return False
    return True
