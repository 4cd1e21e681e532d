"""What is compiled says of rows what Python says."""

import hashlib
import os
import shutil
import struct
import sysconfig
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feilun.events.collector import Intake
from feilun.ports.event_log import Accepted
from feilun.records import columns, compiled, contents, hashing, identity, lists
from feilun.records.record import Record
from feilun.records.rows import Rows

needed = pytest.mark.skipif(compiled.loops is None, reason="there is no C compiler")
ABC = (  # RFC 7693, appendix A
    "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
    "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
)
RECORD = Record("click.v1", "web", "1", 5, 6, 5, 6, "", b"d" * 16, b"\x90")
_EDGES = [b"x" * size for size in (0, 1, 127, 128, 129, 255, 256, 257)]  # a block has 128 bytes


def by_hashlib(begun, values, size):
    """Return what hashlib says, without the way that `digests` takes."""
    raw = [begun + (value.encode() if isinstance(value, str) else value) for value in values]
    return b"".join(hashlib.blake2b(value, digest_size=size).digest() for value in raw)


def test_where_there_is_a_compiler_there_are_loops():
    headers = Path(sysconfig.get_path("include"), "Python.h")
    can_compile = shutil.which("cc") is not None and headers.is_file()
    assert compiled.loops or not can_compile or os.environ.get("FEILUN_COMPILED") == "0"


@pytest.fixture(params=["compiled", "python"])
def way(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(hashing, "loops", None)
    elif compiled.loops is None:
        pytest.skip("there is no C compiler")


@pytest.mark.usefixtures("way")
def test_the_example_of_the_standard():
    assert hashing.digests(b"", [b"abc"], 64).hex() == ABC
    assert hashing.digests(b"a", ["bc"], 64).hex() == ABC


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("begun", _EDGES)
def test_blocks_that_are_full_and_nearly_so(begun):
    assert hashing.digests(begun, _EDGES, 16) == by_hashlib(begun, _EDGES, 16)


@needed
@given(
    st.binary(max_size=300),
    st.lists(st.binary(max_size=300)) | st.lists(st.text(max_size=300)),
    st.integers(1, 64),
)
@example(b"", ["\0", "中文", "\U0001f6d2"], 8)
def test_what_is_compiled_says_what_hashlib_says(begun, values, size):
    assert hashing.digests(begun, values, size) == by_hashlib(begun, values, size)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("value", ["\ud800", 7, None])
def test_what_has_no_bytes_is_refused(value):
    with pytest.raises((UnicodeEncodeError, TypeError)):
        hashing.digests(b"", [value], 8)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [-1, 0, 65])
def test_a_hash_of_another_size_is_refused(size):
    with pytest.raises(ValueError, match="digest_size"):
        hashing.digests(b"", [b"x"], size)


_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["x" * 255, "x" * 256, "x" * 65536])
    | st.binary(max_size=40)
    | st.lists(st.integers(0, 9), max_size=2)
    | st.dictionaries(st.text(max_size=2), st.none(), max_size=2)
    | st.builds(msgspec.msgpack.Ext, st.integers(0, 9), st.binary(max_size=4))
)
_ARRAYS = st.lists(_VALUES, max_size=20).map(msgspec.msgpack.encode)


@st.composite
def bodies(draw):
    """Return a body, or one that was cut short, lengthened, or changed in one byte."""
    body = bytearray(draw(_ARRAYS | st.binary(max_size=5)))
    change = draw(st.sampled_from(["none", "none", "cut", "longer", "byte"]))
    if change == "cut":
        del body[draw(st.integers(0, len(body))) :]
    elif change == "longer":
        body += draw(st.binary(min_size=1, max_size=3))
    elif change == "byte" and body:
        body[draw(st.integers(0, min(len(body), 30) - 1))] = draw(st.integers(0, 255))
    return bytes(body)


@needed
@given(st.lists(bodies(), max_size=3))
@example([b"\x90", b""])
@example([b"\x91", b"\x07"])
@example([b"\xdc\x00", b"\xdd\x00\x00\x00\x00"])
@example([b"\x91\xc1"])
def test_bodies_are_stored_alike(some):
    found = columns._run("a.v1", some)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "loops", None)
        assert columns._run("a.v1", some) == found
    assert found.bodies() == some


@needed
@pytest.mark.parametrize(
    "value",
    [None, False, True, 0.5, *(2**bits - 1 for bits in (7, 8, 16, 32, 64))]
    + [-(2**bits) for bits in (5, 7, 15, 31, 63)]
    + [text * size for text in ("x", b"x") for size in (0, 31, 32, 255, 256, 65_536)],
)
def test_bodies_of_plain_values_are_seen_to_be_so(value):
    body = msgspec.msgpack.encode([value, 7, value])
    assert compiled.loops.plain([body, body])
    assert not any(compiled.loops.plain([body[:cut]]) for cut in range(min(len(body), 70)))
    assert not any(compiled.loops.plain([body, wrong]) for wrong in (body[:-1], body + b"\x07"))


@needed
@pytest.mark.parametrize("value", [[], {}, [1], {"a": 1}, msgspec.msgpack.Ext(1, b"")])
def test_bodies_of_other_values_are_left_to_be_decoded(value):
    assert not compiled.loops.plain([msgspec.msgpack.encode([value])])


_INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [sign * 2**bits + near for bits in range(63) for near in (-1, 0, 1) for sign in (1, -1)]
)
_FIELDS = (
    st.none()
    | st.booleans()
    | _INT64
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["中" * 11, *("x" * size for size in (31, 32, 255, 256, 65_535, 65_536))])
    | st.lists(st.floats(), max_size=20)
    | st.sampled_from([2**63, 2**64 - 1, [[]], b"x", (1,)])  # left to Python
)


@st.composite
def events(draw):
    """Return the fields and times of events of one kind, and where their subject is."""
    fields = draw(st.integers(0, 20))
    rows = draw(st.lists(st.tuples(*[_FIELDS] * fields), max_size=12))
    times = [draw(st.none() | _INT64) for _ in rows]
    return rows, times, draw(st.none() | st.integers(0, fields - 1)) if fields else None


@needed
@given(events(), st.booleans(), st.sampled_from(["user_id=", "", "用户="]))
@example(([(1, *[None] * 15), (None,) * 16], [5, None], 0), True, "user_id=")
@example(([(-(2**63),), (2**63 - 1,), (0,), (True,), (2**63,)], [0] * 5, 0), False, "user_id=")
def test_what_events_say_is_the_same(some, grown, about):
    rows, times, subject = some
    asked = {"grown": grown, "subject": subject, "about": about}
    found = contents.contents("click", rows, times, **asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "loops", None)
        patch.setattr(hashing, "loops", None)
        assert contents.contents("click", rows, times, **asked) == found


@needed
def test_plain_events_are_not_left_to_python():
    row = (None, True, -1, 2**63 - 1, 0.5, "中", [0.5, -0.5])
    assert compiled.loops.contents([row], [None], b"", 16, 2, b"user_id=", True)
    assert compiled.loops.contents([(b"x",)], [None], b"", 16, -1, b"", True) is None


@pytest.mark.parametrize("loops", [compiled.loops, None])
def test_rows_that_do_not_fit_are_refused(loops, monkeypatch):
    monkeypatch.setattr(contents, "loops", loops)
    with pytest.raises(ValueError):
        contents.contents("click", [(7,), (8,)], [5])
    with pytest.raises(IndexError):
        contents.contents("click", [(7, 8), (7,)], [5, 5], subject=1)


@pytest.mark.parametrize("loops", [compiled.loops, None])
def test_text_that_has_no_bytes_is_refused(loops, monkeypatch):
    monkeypatch.setattr(contents, "loops", loops)
    with pytest.raises(UnicodeEncodeError):
        contents.contents("click", [("\ud800",)], [5])


_NUMBERS = st.lists(_INT64, max_size=9) | st.lists(st.sampled_from([7, 8]), max_size=3)


@needed
@given(_NUMBERS | st.lists(_INT64 | st.sampled_from([2**63, -(2**63) - 1, None, True, 0.5])))
def test_extremes_are_the_same(numbers):
    found = lists.extremes(numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "loops", None)
        assert lists.extremes(numbers) == found


@needed
@given(_NUMBERS, st.lists(st.binary(min_size=2, max_size=2), max_size=9))
def test_columns_are_packed_alike(numbers, cells):
    found = columns._numbers(numbers), columns._joined(cells, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "loops", None)
        assert (columns._numbers(numbers), columns._joined(cells, 2)) == found


@pytest.mark.parametrize("loops", [compiled.loops, None])
def test_what_no_column_holds_is_refused(loops, monkeypatch):
    monkeypatch.setattr(columns, "loops", loops)
    for wrong in (2**63, 0.5, None):
        with pytest.raises((struct.error, OverflowError, TypeError)):
            columns._numbers([1, wrong])
    for wrong in (b"", b"x", b"xyz"):
        with pytest.raises(ValueError, match="2 bytes"):
            columns._joined([b"xy", wrong], 2)


@needed
@given(st.binary(max_size=9), st.lists(st.text(max_size=9)))
def test_keys_are_the_same(before, ids):
    assert compiled.loops.keys(before, ids) == [before + id.encode() for id in ids]


@given(st.lists(st.text(min_size=1, max_size=64), min_size=1, max_size=9))
def test_keys_of_many_names_are_those_of_each(ids):
    rows = Rows.of([msgspec.structs.replace(RECORD, id=id) for id in ids])
    wanted = [identity.name_key(3, "web", id) for id in ids]
    assert identity.name_keys(rows, [3] * len(rows)) == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "loops", None)
        assert identity.name_keys(rows, [3] * len(rows)) == wanted


_IDS = st.text(min_size=1, max_size=8) | st.sampled_from(['"', "\\", "\x1f", "\x7f", "中\u2028"])


@needed
@given(st.lists(_IDS), st.integers(0, 2**62))
@example([], 0)
@example(["1"], 2**63 - 2)
def test_answers_are_the_same(ids, first):
    intake = Intake("web", Rows.of([msgspec.structs.replace(RECORD, id=id) for id in ids]))
    appended = Accepted(range(first, first + len(ids)))
    found = intake.encoded(appended)
    assert found == msgspec.json.encode(intake.answers(appended)) == intake.encoded(list(appended))


@needed
def test_an_answer_to_each_event():
    assert compiled.loops.accepted(["1"], range(1))
    assert compiled.loops.accepted(['"'], range(1)) is None
    with pytest.raises(ValueError, match="0 offsets of 1 events"):
        compiled.loops.accepted(["1"], range(0))
