"""What is compiled says of rows what Python says."""

import hashlib
import os
import shutil
import sysconfig
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feilun.records import columns, compiled, hashing

needed = pytest.mark.skipif(compiled.loops is None, reason="there is no C compiler")
ABC = (  # RFC 7693, appendix A
    "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
    "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
)
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
