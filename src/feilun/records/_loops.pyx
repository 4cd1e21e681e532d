# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Compiled loops over the rows of a batch; each has a way without, which gives the same.

``digests`` is BLAKE2b (RFC 7693) of many short values. A hash object for each costs more than the
hash: making, feeding, asking and freeing it. Here eight values are hashed side by side, a lane
each, which processors with wide registers do in little more time than one; ``hashing`` has the way
without. ``contents`` writes what events say as MessagePack, hashes it where it lies and names whom
it is about; ``contents`` has the way without. ``plain`` looks through bodies of MessagePack,
``packed`` and ``joined`` make columns; ``columns`` has the ways without. ``extremes`` is from
``lists``, ``keys`` from ``identity``, ``accepted`` from the collector.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.number cimport PyNumber_Index
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint64_t
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

    static uint64_t swapped(uint64_t word) { return __builtin_bswap64(word); }
    """
    enum:
        LANES
    uint64_t swapped(uint64_t word) noexcept nogil
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
    cdef uint64_t[LANES][16] own
    cdef uint64_t[16] common
    cdef uint64_t[8] out
    cdef Py_ssize_t at = 0, length, longest = 0
    cdef int lane, word
    memset(own, 0, sizeof(own))
    for word in range(8):
        for lane in range(LANES):
            words[word][lane] = START[word]
            if word == 0:
                words[word][lane] ^= 0x01010000 ^ <uint64_t>size  # no key: RFC 7693, 2.5
    for lane in range(count):
        longest = max(longest, begun.size + values[lane].size)
    while at == 0 or at < longest:
        memset(common, 0, BLOCK)
        cut(begun, at, <char*>common, 0)
        for lane in range(count):
            memcpy(own[lane], common, BLOCK)
            cut(&values[lane], at, <char*>own[lane], begun.size)
            length = begun.size + values[lane].size
            mixed[lane] = min(at + BLOCK, length)
            last[lane] = <uint64_t>-1 if length <= at + BLOCK else 0
        for word in range(16):
            for lane in range(LANES):
                block[word][lane] = own[lane][word]
        compress(words, block, mixed, last)
        for lane in range(count):
            length = begun.size + values[lane].size
            if length <= at + BLOCK and (at == 0 or at < length):
                for word in range(8):
                    out[word] = words[word][lane]
                memcpy(found + lane * size, out, size)
        at += BLOCK


cdef int hash_many(
    const Part* begun, const Part* values, Py_ssize_t count, Py_ssize_t size, char* found
) except -1:
    cdef Py_ssize_t at
    for at in range(0, count, LANES):
        hash_few(begun, values + at, min(LANES, count - at), size, found + at * size)
    return 0


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


def keys(bytes before, list texts):
    """Return each text's UTF-8 with ``before`` before it."""
    cdef Part text, start = part_of(before)
    cdef char* into
    cdef list found = []
    for value in texts:
        text = part_of(value)
        key = PyBytes_FromStringAndSize(NULL, start.size + text.size)
        into = PyBytes_AS_STRING(key)
        memcpy(into, start.data, start.size)
        memcpy(into + start.size, text.data, text.size)
        found.append(key)
    return found


def extremes(list numbers):
    """Return the least and the greatest of int64 numbers; None if there are others among them."""
    cdef int overflow = 0
    cdef int64_t one, least = INT64_MAX, greatest = INT64_MIN
    for number in numbers:
        if type(number) is not int:
            return None
        one = PyLong_AsLongLongAndOverflow(number, &overflow)
        if overflow:
            return None
        least = min(least, one)
        greatest = max(greatest, one)
    return (least, greatest) if numbers else None


def packed(list numbers):
    """Return int64 numbers, little-endian; one of them alone if it is that of all."""
    cdef Py_ssize_t at, count = len(numbers)
    cdef bint alike = True
    cdef int64_t* into
    found = PyBytes_FromStringAndSize(NULL, count * sizeof(int64_t))
    into = <int64_t*>PyBytes_AS_STRING(found)
    for at in range(count):
        into[at] = PyNumber_Index(numbers[at])
        alike = alike and into[at] == into[0]
    return found[:sizeof(int64_t)] if alike else found


def joined(list values, Py_ssize_t size):
    """Return values of ``size`` bytes, one after another; ValueError if one has more or less."""
    cdef Part part
    cdef char* into
    found = PyBytes_FromStringAndSize(NULL, len(values) * size)
    into = PyBytes_AS_STRING(found)
    for value in values:
        part = part_of(value)
        if part.size != size:
            raise ValueError(f"each has {size} bytes")
        memcpy(into, part.data, size)
        into += size
    return found


@cython.final
cdef class Buffer:
    """Memory that grows; it goes when the object does."""

    cdef uint8_t* data
    cdef Py_ssize_t size, most

    def __dealloc__(self):
        PyMem_Free(self.data)


cdef inline int grow(Buffer buffer, Py_ssize_t count) except -1:
    """Make room for ``count`` more bytes, which are not counted yet."""
    cdef void* larger
    cdef Py_ssize_t most = 2 * buffer.most + count
    if buffer.size + count > buffer.most:
        larger = PyMem_Realloc(buffer.data, most)
        if larger == NULL:
            raise MemoryError
        buffer.data = <uint8_t*>larger
        buffer.most = most
    return 0


cdef inline int put_bytes(Buffer buffer, const void* data, Py_ssize_t size) except -1:
    grow(buffer, size)
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size
    return 0


cdef inline int put_number(Buffer buffer, int head, int width, uint64_t value) except -1:
    """Write a MessagePack head, and a number after it: big-endian, in ``width`` bytes."""
    cdef uint64_t turned = swapped(value << 64 - 8 * width) if width else 0
    grow(buffer, 1 + sizeof(turned))
    buffer.data[buffer.size] = head
    memcpy(buffer.data + buffer.size + 1, &turned, sizeof(turned))
    buffer.size += 1 + width
    return 0


cdef int put_int(Buffer buffer, int64_t value) except -1:
    cdef int width = 0
    if -32 <= value < 128:
        return put_number(buffer, value & 0xFF, 0, 0)
    if value < 0:
        while width < 3 and value < -(<int64_t>1 << (8 << width) - 1):
            width += 1
        return put_number(buffer, 0xD0 + width, 1 << width, <uint64_t>value)
    while width < 3 and value >> (8 << width):
        width += 1
    return put_number(buffer, 0xCC + width, 1 << width, <uint64_t>value)


cdef int put_str(Buffer buffer, value) except -1:
    cdef Part part = part_of(value)
    if part.size < 32:
        put_number(buffer, 0xA0 | part.size, 0, 0)
    elif part.size < 1 << 8:
        put_number(buffer, 0xD9, 1, part.size)
    elif part.size < 1 << 16:
        put_number(buffer, 0xDA, 2, part.size)
    else:
        put_number(buffer, 0xDB, 4, part.size)
    return put_bytes(buffer, part.data, part.size)


cdef int put_array(Buffer buffer, Py_ssize_t length) except -1:
    """Write what an array of ``length`` values begins with."""
    if length < 16:
        return put_number(buffer, 0x90 | length, 0, 0)
    if length < 1 << 16:
        return put_number(buffer, 0xDC, 2, length)
    return put_number(buffer, 0xDD, 4, length)


cdef bint put(Buffer buffer, value) except -1:
    """Write a value of an event as MessagePack; False if it is none of those written here."""
    cdef int overflow = 0
    cdef int64_t whole
    cdef double real
    cdef uint64_t bits
    if value is None:
        put_number(buffer, 0xC0, 0, 0)
    elif value is False or value is True:
        put_number(buffer, 0xC3 if value is True else 0xC2, 0, 0)
    elif type(value) is int:
        whole = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            return False
        put_int(buffer, whole)
    elif type(value) is str:
        put_str(buffer, value)
    elif type(value) is float:
        real = value
        memcpy(&bits, &real, sizeof(bits))
        put_number(buffer, 0xCB, 8, bits)
    elif type(value) is list:
        put_array(buffer, len(<list>value))
        for each in <list>value:
            if type(each) is list or not put(buffer, each):
                return False
    else:
        return False
    return True


cdef int put_decimal(Buffer buffer, int64_t value) except -1:
    """Write a number as text."""
    cdef uint64_t left = -<uint64_t>value if value < 0 else <uint64_t>value
    cdef char[20] digits
    cdef int at = sizeof(digits)
    while True:
        at -= 1
        digits[at] = b"0"[0] + left % 10
        left = left // 10
        if left == 0:
            break
    if value < 0:
        at -= 1
        digits[at] = b"-"[0]
    return put_bytes(buffer, digits + at, sizeof(digits) - at)


cdef object name_of(Buffer buffer, bytes about, value):
    """Return the text ``about`` with ``value`` written after it."""
    cdef int overflow = 0
    cdef int64_t whole
    cdef Py_ssize_t before = buffer.size
    if type(value) is int:
        whole = PyLong_AsLongLongAndOverflow(value, &overflow)
    if type(value) is not int or overflow:
        return f"{about.decode()}{value}"
    put_bytes(buffer, PyBytes_AS_STRING(about), len(about))
    put_decimal(buffer, whole)
    name = PyUnicode_DecodeUTF8(<char*>buffer.data + before, buffer.size - before, NULL)
    buffer.size = before
    return name


def contents(
    list rows, list times, bytes begun, Py_ssize_t size, int subject, bytes about, bint grown
):
    """Return bodies, digests (``size`` bytes each, one after another) and subjects of events.

    ``begun`` is what a digest begins with; ``subject`` is a place in a row, -1 for none; ``grown``
    leaves absent fields at the end out of digests. None if a value is of an unusual type.
    """
    cdef Py_ssize_t count = len(rows), at, start, body, field, said, length
    cdef Buffer texts = Buffer(), places = Buffer()
    cdef Part* part
    cdef Part before = part_of(begun)
    cdef tuple row
    cdef list bodies = [], subjects = []
    if len(times) != count:
        raise ValueError(f"{len(times)} times of {count} events")
    grow(texts, 64 * count)
    grow(places, count * sizeof(Part))
    part = <Part*>places.data
    for at in range(count):
        row = tuple(rows[at])
        length = said = len(row)
        if subject >= length:
            raise IndexError(f"an event of {length} fields has none at {subject}")
        start = texts.size
        if not put(texts, times[at]):
            return None
        body = texts.size
        put_array(texts, length)
        field = texts.size
        for value in row:
            if not put(texts, value):
                return None
        bodies.append(
            PyBytes_FromStringAndSize(<char*>texts.data + body, texts.size - body)
        )
        while grown and said and row[said - 1] is None:
            said -= 1
        if said < length:
            start = shorten(texts, start, body, field, length - said, said)
        part[at].data = <char*>start  # from the first text on; those may yet move
        part[at].size = texts.size - start
        if subject < 0 or row[subject] is None:
            subjects.append("")
        else:
            subjects.append(name_of(texts, about, row[subject]))
    for at in range(count):
        part[at].data += <size_t>texts.data
    found = PyBytes_FromStringAndSize(NULL, count * size)
    hash_many(&before, part, count, size, PyBytes_AS_STRING(found))
    return bodies, found, subjects


cdef Py_ssize_t shorten(
    Buffer texts, Py_ssize_t start, Py_ssize_t body, Py_ssize_t field, Py_ssize_t absent,
    Py_ssize_t said,
) except -1:
    """Write the newest text again without its last ``absent`` values; return where it begins."""
    cdef Py_ssize_t again = texts.size, values = texts.size - field - absent  # a byte each
    grow(texts, 2 * (texts.size - start))  # what is copied must not move meanwhile
    put_bytes(texts, texts.data + start, body - start)
    put_array(texts, said)
    put_bytes(texts, texts.data + field, values)
    return again


cdef bint is_bare(const Part* part) noexcept nogil:
    """Whether JSON holds a text as it is, with nothing escaped."""
    cdef Py_ssize_t at
    for at in range(part.size):
        if <uint8_t>part.data[at] < 0x20 or part.data[at] in (b'"'[0], b"\\"[0]):
            return False
    return True


def accepted(list ids, offsets):
    """Return the JSON of answers to events that were all accepted, an array.

    ``offsets`` is a range, of one for each. None if an id must be escaped.
    """
    cdef bytes begun = b',{"status":"accepted","id":"', between = b'","offset":'
    cdef Buffer json = Buffer()
    cdef Part id, start = part_of(begun), middle = part_of(between)
    cdef int64_t offset = offsets.start
    if len(ids) != len(offsets):
        raise ValueError(f"{len(offsets)} offsets of {len(ids)} events")
    grow(json, 128 * len(ids) + 2)
    for each in ids:
        id = part_of(each)
        if not is_bare(&id):
            return None
        put_bytes(json, start.data, start.size)
        put_bytes(json, id.data, id.size)
        put_bytes(json, middle.data, middle.size)
        put_decimal(json, offset)
        put_bytes(json, b"}", 1)
        offset += 1
    put_bytes(json, b"]", 1) if ids else put_bytes(json, b"[]", 2)
    json.data[0] = b"["[0]
    return PyBytes_FromStringAndSize(<char*>json.data, json.size)


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
