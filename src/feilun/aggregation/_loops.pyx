# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Compiled loops over the words of blobs; ``codec`` says what the words are.

What a window means is decided elsewhere: here rows from a given time on are added up, rows of the
same time are merged, and blobs are taken apart and put together, checked as ``codec`` does. Each
of these has a twin in NumPy, which gives the same, later.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport NAN, isnan
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

from feilun.aggregation.tiles import corrupt

cdef enum:
    WORD = 8
    HEAD_WORDS = 2
    MOST_PLANS = 255
    MOST_FEATURES = 64
    SECOND = 1_000_000

MOST_OF_SPAN = MOST_FEATURES
"""The most features that one span may have."""

cdef double SCALE = 2.0**-64
cdef double LIMIT = 1.7976931348623157e308 * 2.0**-64
cdef int64_t LOW = 0xFFFF_FFFF

cdef enum Value:
    COUNT
    TOTAL
    TOTAL_FLOAT
    MEAN
    MEAN_FLOAT
    LEAST
    LEAST_FLOAT
    MOST
    MOST_FLOAT

VALUES = {
    "count": COUNT,
    "total": TOTAL,
    "total_float": TOTAL_FLOAT,
    "mean": MEAN,
    "mean_float": MEAN_FLOAT,
    "least": LEAST,
    "least_float": LEAST_FLOAT,
    "most": MOST,
    "most_float": MOST_FLOAT,
}

cdef enum Merge:
    ADD
    ADD_LOW
    ADD_FLOAT
    SMALLER
    SMALLER_FLOAT
    LARGER
    LARGER_FLOAT

MERGES = {
    "add": ADD,
    "add_low": ADD_LOW,
    "add_float": ADD_FLOAT,
    "smaller": SMALLER,
    "smaller_float": SMALLER_FLOAT,
    "larger": LARGER,
    "larger_float": LARGER_FLOAT,
}

ctypedef union Number:
    int64_t whole
    double real

cdef struct Column:
    Py_ssize_t word
    int merge

cdef struct Feature:
    Py_ssize_t at  # its place in the list that was asked for
    int value
    Py_ssize_t columns[3]

cdef struct Span:
    Py_ssize_t place
    int64_t window
    int64_t hop  # 0: `start` is found in another way
    int64_t start
    # Its columns, those first that are added up as whole numbers; and its features.
    Py_ssize_t first, others, end
    Py_ssize_t first_feature, end_feature


cdef class Blobs:
    """The layout of one family's blobs, and the checks that every use of one begins with.

    Parameters
    ----------
    head : int
        What the first word of a blob says of its version and its plans.
    widths : sequence of int
        How many words a row of each plan takes.
    """

    cdef int64_t _head
    cdef Py_ssize_t _plans
    cdef int64_t _widths[MOST_PLANS]

    def __cinit__(self, int64_t head, widths, *_):
        if len(widths) > MOST_PLANS:
            raise ValueError(f"a blob has at most {MOST_PLANS} plans")
        self._head = head
        self._plans = len(widths)
        for place, width in enumerate(widths):
            self._widths[place] = width

    cdef int _check(self, bytes blob, int64_t* begins) except -1:
        """Check a blob; set the word at which the rows of each plan begin, and where they end."""
        cdef const int64_t* words = <const int64_t*> PyBytes_AS_STRING(blob)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(blob)
        cdef int64_t count = size // WORD
        cdef int64_t end = HEAD_WORDS + self._plans
        cdef uint64_t total = 0
        cdef Py_ssize_t at
        if size % WORD or count < end:
            raise corrupt("its length is not of whole words")
        if words[0] & 0xFFFF != self._head:
            raise corrupt("it is of another version or of another family")
        for at in range(count):
            total += <uint64_t> words[at]
        if total:
            raise corrupt("it fails its checksum")
        for at in range(self._plans):
            begins[at] = end
            if not 0 <= words[HEAD_WORDS + at] <= count:
                raise corrupt("it says that it has an impossible number of rows")
            end += words[HEAD_WORDS + at] * self._widths[at]
        begins[self._plans] = end
        if end + ((<uint64_t> words[0] >> 16) + WORD - 1) // WORD != <uint64_t> count:
            raise corrupt("its length does not fit the number of its rows")
        return 0

    def unpack(self, list blobs):
        """Return the rows of each plan, one key after the other, and how many each key has.

        Parameters
        ----------
        blobs : list of bytes
            One a key.

        Returns
        -------
        counts : int64 array, keys × plans
        parts : list of int64 arrays
            The words of the rows of each plan.

        Raises
        ------
        CorruptData
            If one cannot be read.
        """
        cdef int64_t begins[MOST_PLANS + 1]
        cdef Py_ssize_t key, place
        cdef int64_t[::1] part
        counts = np.empty((len(blobs), self._plans), np.int64)
        cdef int64_t[:, ::1] rows = counts
        cdef int64_t totals[MOST_PLANS]
        memset(totals, 0, sizeof(totals))
        for key in range(len(blobs)):
            self._check(blobs[key], begins)
            for place in range(self._plans):
                rows[key, place] = (begins[place + 1] - begins[place]) // self._widths[place]
                totals[place] += begins[place + 1] - begins[place]
        parts = []
        for place in range(self._plans):
            part = np.empty(totals[place], np.int64)
            if totals[place]:
                _gather(blobs, rows, place, self._widths, &part[0])
            parts.append(part.base)
        return counts, parts


cdef void _gather(
    list blobs, int64_t[:, ::1] rows, Py_ssize_t place, const int64_t* widths, int64_t* to
) noexcept:
    """Copy the rows of one plan from checked blobs."""
    cdef Py_ssize_t key, before
    cdef int64_t first, size
    for key in range(rows.shape[0]):
        first = HEAD_WORDS + rows.shape[1]
        for before in range(place):
            first += rows[key, before] * widths[before]
        size = rows[key, place] * widths[place]
        memcpy(to, PyBytes_AS_STRING(<bytes> blobs[key]) + first * WORD, size * WORD)
        to += size


cdef class Reader(Blobs):
    """Reads windows of one family from its blobs.

    The rows of a window are merged to one, as a fold would merge them, and that one is finished.

    Parameters
    ----------
    head, widths
        As for `Blobs`.
    spans : list of (place, window, hop, start)
        Each a window on the rows of the plan at ``place``. It begins at
        ``floor_hop(as_of - window)``; without a hop, where ``start(as_of)`` says, which is asked
        once for each second of ``as_of``; without ``start`` it has all rows.
    features : list of (address, span, value, columns)
        What is read: one of ``VALUES``, and for each of its columns the word in a row and one of
        ``MERGES``. A span has at most ``MOST_OF_SPAN`` of them.
    """

    cdef Span* _spans
    cdef Feature* _features
    cdef Column* _columns
    cdef Py_ssize_t _span_count, _count
    cdef tuple _addresses
    cdef list _asked
    cdef int64_t _second

    def __cinit__(self, int64_t head, widths, list spans, list features):
        self._spans = <Span*> malloc((len(spans) + 1) * sizeof(Span))
        self._features = <Feature*> malloc((len(features) + 1) * sizeof(Feature))
        self._columns = <Column*> malloc((3 * len(features) + 1) * sizeof(Column))
        if not self._spans or not self._features or not self._columns:
            raise MemoryError
        self._span_count, self._count = len(spans), len(features)
        self._addresses = tuple([asked[0] for asked in features])
        self._asked = []
        self._second = INT64_MIN
        cdef Py_ssize_t at, of_span, place, next_column = 0, next_feature = 0
        cdef Span* span
        cdef Feature* feature
        for of_span, (place, window, hop, start) in enumerate(spans):
            span = &self._spans[of_span]
            span.place, span.window, span.hop, span.start = place, window, hop, INT64_MIN
            if start is not None:
                self._asked.append((of_span, start))
            mine = [(at, *rest) for at, (_, of, *rest) in enumerate(features) if of == of_span]
            if len(mine) > MOST_FEATURES:
                raise ValueError(f"a span has at most {MOST_FEATURES} features")
            needed = dict.fromkeys(column for _, _, columns in mine for column in columns)
            order = sorted(needed, key=lambda column: column[1] not in ("add", "add_low"))
            span.first = span.others = next_column
            for word, merge in order:
                self._columns[next_column] = Column(word, MERGES[merge])
                next_column += 1
                span.others += merge in ("add", "add_low")
            span.end = next_column
            span.first_feature = next_feature
            for at, value, columns in mine:
                feature = &self._features[next_feature]
                feature.at, feature.value = at, VALUES[value]
                for place, column in enumerate(columns):
                    feature.columns[place] = order.index(column)
                next_feature += 1
            span.end_feature = next_feature

    def __dealloc__(self):
        free(self._spans)
        free(self._features)
        free(self._columns)

    cdef int _follow(self, int64_t as_of) except -1:
        """Set where each window begins. Until this thread stops no other one sets it again."""
        cdef Py_ssize_t at
        cdef int64_t second = as_of // SECOND, start
        cdef Span* span
        if second != self._second and self._asked:
            found = [(at, first(as_of)) for at, first in self._asked]
            for at, first in found:
                self._spans[at].start = first
            self._second = second
        for at in range(self._span_count):
            span = &self._spans[at]
            if span.hop:
                start = as_of - span.window
                span.start = start - (start % span.hop + span.hop) % span.hop
        return 0

    cdef bint _merged(
        self, bytes blob, const int64_t* begins, const Span* span, Number* into
    ) noexcept:
        """Merge the rows of a window, the newest first; return whether there are any."""
        cdef const int64_t* first = <const int64_t*> PyBytes_AS_STRING(blob) + begins[span.place]
        cdef const int64_t* row = <const int64_t*> PyBytes_AS_STRING(blob) + begins[span.place + 1]
        cdef const Column* columns = &self._columns[span.first]
        cdef Py_ssize_t adds = span.others - span.first, count = span.end - span.first, at
        cdef int64_t width = self._widths[span.place]
        cdef const Number* word
        cdef bint some = False
        for at in range(count):
            into[at].whole = 0
        while row > first:
            row -= width
            if row[0] < span.start:
                break
            for at in range(adds):
                into[at].whole += row[columns[at].word]
            for at in range(adds, count):
                if some:
                    word = <const Number*> &row[columns[at].word]
                    _merge_word(&into[at], word, columns[at].merge)
                else:
                    into[at].whole = row[columns[at].word]
            some = True
        return some

    def one(self, bytes blob, int64_t as_of, dict into):
        """Put the values of one key ``into`` a dictionary; return whether some are missing (None).

        Raises
        ------
        CorruptData
            If the blob cannot be read.
        """
        cdef int64_t begins[MOST_PLANS + 1]
        cdef Number merged[3 * MOST_FEATURES]
        cdef Number value
        cdef Py_ssize_t span, at
        cdef const Feature* feature
        cdef bint some, missing = False
        self._follow(as_of)
        self._check(blob, begins)
        for span in range(self._span_count):
            some = self._merged(blob, begins, &self._spans[span], merged)
            for at in range(self._spans[span].first_feature, self._spans[span].end_feature):
                feature = &self._features[at]
                if not _finish(feature, merged, some, &value):
                    into[self._addresses[feature.at]] = None
                    missing = True
                elif _is_float(feature.value):
                    into[self._addresses[feature.at]] = value.real
                else:
                    into[self._addresses[feature.at]] = value.whole
        return missing

    def many(self, list blobs, int64_t as_of):
        """Return values and presence of each feature for many keys.

        Returns
        -------
        list of (array, array)
            In the order of the features: int64 or float64 values, 0 or NaN where there is none;
            and booleans.

        Raises
        ------
        CorruptData
            If one of the blobs cannot be read.
        """
        cdef int64_t begins[MOST_PLANS + 1]
        cdef Number merged[3 * MOST_FEATURES]
        cdef Py_ssize_t key, span, at, keys = len(blobs)
        cdef const Feature* feature
        cdef bytes blob
        cdef bint some
        numbers = np.empty((self._count, keys), np.int64)
        marks = np.empty((self._count, keys), np.bool_)
        cdef int64_t[:, ::1] values = numbers
        cdef unsigned char[:, ::1] present = marks.view(np.uint8)
        self._follow(as_of)
        for key in range(keys):
            blob = blobs[key]
            self._check(blob, begins)
            for span in range(self._span_count):
                some = self._merged(blob, begins, &self._spans[span], merged)
                for at in range(self._spans[span].first_feature, self._spans[span].end_feature):
                    feature = &self._features[at]
                    present[feature.at, key] = _finish(
                        feature, merged, some, <Number*> &values[feature.at, key]
                    )
        found = [(of_feature, mark) for of_feature, mark in zip(numbers, marks)]
        for at in range(self._count):
            feature = &self._features[at]
            if _is_float(feature.value):
                found[feature.at] = numbers[feature.at].view(np.float64), marks[feature.at]
        return found


cdef inline bint _is_float(int value) noexcept:
    return value not in (COUNT, TOTAL, LEAST, MOST)


cdef inline bint _finish(
    const Feature* feature, const Number* merged, bint some, Number* to
) noexcept:
    """Set the value of a merged row; return whether there is one."""
    cdef Number first = merged[feature.columns[0]]
    cdef int64_t high, low, n
    if feature.value == COUNT:
        to.whole = first.whole
        return True
    if feature.value == TOTAL_FLOAT:
        to.real = _restored(first.real)
        return True
    if feature.value == MEAN_FLOAT:
        n = merged[feature.columns[1]].whole
        to.real = _restored(first.real / <double> n) if n else NAN
        return n != 0
    if feature.value == TOTAL or feature.value == MEAN:
        low = merged[feature.columns[1]].whole
        high = first.whole + (low >> 32)
        low &= LOW
        if feature.value == TOTAL:
            to.whole = _whole(high, low)
            return True
        n = merged[feature.columns[2]].whole
        to.real = (<double> high * 4294967296.0 + <double> low) / <double> n if n else NAN
        return n != 0
    to.whole = first.whole
    if not some and _is_float(feature.value):
        to.real = NAN
    return some


cdef inline int64_t _whole(int64_t high, int64_t low) noexcept:
    """Return a sum of integers; beyond int64 the nearest one."""
    if high < -(<int64_t> 1 << 31):
        return INT64_MIN
    if high >= <int64_t> 1 << 31:
        return INT64_MAX
    return <int64_t> (<uint64_t> high << 32 | <uint64_t> low)


cdef inline double _restored(double total) noexcept:
    return min(max(total, -LIMIT), LIMIT) / SCALE


cdef inline void _merge_word(Number* into, const Number* word, int64_t merge) noexcept:
    """Merge one column of two rows; NaN stays NaN, as in NumPy."""
    if merge == ADD or merge == ADD_LOW:
        into.whole += word.whole
    elif merge == ADD_FLOAT:
        into.real += word.real
    elif merge == SMALLER:
        into.whole = min(into.whole, word.whole)
    elif merge == LARGER:
        into.whole = max(into.whole, word.whole)
    elif isnan(word.real) or (merge == SMALLER_FLOAT and word.real < into.real):
        into.real = word.real
    elif merge == LARGER_FLOAT and word.real > into.real:
        into.real = word.real


cdef inline void _merge_row(
    int64_t* into, const int64_t* row, const int64_t* merges, Py_ssize_t width
) noexcept:
    cdef Py_ssize_t at
    for at in range(1, width):
        _merge_word(<Number*> &into[at], <const Number*> &row[at], merges[at])
        if merges[at] == ADD_LOW:
            into[at - 1] += into[at] >> 32
            into[at] &= LOW


def merge(
    const int64_t[:, ::1] a,
    const int64_t[::1] a_offsets,
    const int64_t[:, ::1] b,
    const int64_t[::1] b_offsets,
    list merges,
):
    """Merge the rows of the same keys, each sorted by their first word, their time.

    Parameters
    ----------
    a, b : int64 arrays, rows × words
        Times are distinct within a key.
    a_offsets, b_offsets : int64 arrays
        Where each key's rows begin; both of as many keys.
    merges : list of str
        For each word but the first, how two of them merge (one of ``MERGES``); ``add_low`` carries
        what is beyond 32 bits into the word before.

    Returns
    -------
    rows : int64 array, rows × words
    offsets : int64 array
    """
    cdef Py_ssize_t keys = a_offsets.shape[0] - 1, width = len(merges) + 1, key
    cdef int64_t i, j, i_end, j_end, n = 0
    cdef const int64_t[::1] kinds = np.array([0, *[MERGES[name] for name in merges]], np.int64)
    merged = np.empty((a.shape[0] + b.shape[0], width), np.int64)
    offsets = np.zeros(keys + 1, np.int64)
    cdef int64_t[:, ::1] to = merged
    cdef int64_t[::1] ends = offsets
    cdef Py_ssize_t row = width * sizeof(int64_t)
    for key in range(keys):
        i, i_end = a_offsets[key], a_offsets[key + 1]
        j, j_end = b_offsets[key], b_offsets[key + 1]
        while i < i_end or j < j_end:
            if j == j_end or (i < i_end and a[i, 0] < b[j, 0]):
                memcpy(&to[n, 0], &a[i, 0], row)
                i += 1
            elif i == i_end or b[j, 0] < a[i, 0]:
                memcpy(&to[n, 0], &b[j, 0], row)
                j += 1
            else:
                memcpy(&to[n, 0], &a[i, 0], row)
                _merge_row(&to[n, 0], &b[j, 0], &kinds[0], width)
                i += 1
                j += 1
            n += 1
        ends[key + 1] = n
    return merged[:n], offsets


def pack(int64_t head, list parts, list offsets, list texts):
    """Return the blob of each key.

    Parameters
    ----------
    head : int
        As for `Blobs`.
    parts : list of int64 arrays, rows × words
        The rows of each plan.
    offsets : list of int64 arrays
        Where each key's rows begin, for each plan.
    texts : list of bytes
        The strings of each key; empty if there are none anywhere.
    """
    cdef Py_ssize_t plans = len(parts), keys = len(offsets[0]) - 1, key, place, words, size
    cdef const int64_t* rows[MOST_PLANS]
    cdef const int64_t* ends[MOST_PLANS]
    cdef int64_t widths[MOST_PLANS]
    cdef const int64_t[:, ::1] part
    cdef const int64_t[::1] bounds
    cdef int64_t* to
    cdef int64_t text_size, count
    cdef uint64_t total
    cdef bytes blob, text = b""
    for place in range(plans):
        part, bounds = parts[place], offsets[place]
        rows[place] = &part[0, 0] if part.shape[0] else NULL
        ends[place], widths[place] = &bounds[0], part.shape[1]
    blobs = []
    for key in range(keys):
        words = HEAD_WORDS + plans
        for place in range(plans):
            words += (ends[place][key + 1] - ends[place][key]) * widths[place]
        if texts:
            text = texts[key]
        text_size = PyBytes_GET_SIZE(text)
        size = words + (text_size + WORD - 1) // WORD
        blob = PyBytes_FromStringAndSize(NULL, size * WORD)
        to = <int64_t*> PyBytes_AS_STRING(blob)
        to[0], to[1] = head | text_size << 16, 0
        words = HEAD_WORDS + plans
        for place in range(plans):
            count = ends[place][key + 1] - ends[place][key]
            to[HEAD_WORDS + place] = count
            if count:
                memcpy(
                    to + words,
                    rows[place] + ends[place][key] * widths[place],
                    count * widths[place] * WORD,
                )
            words += count * widths[place]
        if text_size:
            to[size - 1] = 0
            memcpy(to + words, PyBytes_AS_STRING(text), text_size)
        total = 0
        for words in range(size):
            total += <uint64_t> to[words]
        to[1] = <int64_t> (0 - total)
        blobs.append(blob)
    return blobs
