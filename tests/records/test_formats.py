"""Format 1, byte by byte as docs/formats.md draws it. If one of these fails, a format has changed:
stored data must stay readable, so add a version beside it; never mend the bytes here."""

from __future__ import annotations

import struct
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.errors import CorruptData, InputError
from feilun.records import identity
from feilun.records.codec import (
    decode_batch,
    decode_prediction,
    decode_record,
    encode_batch,
    encode_prediction,
    encode_record,
)
from feilun.records.record import LATE, Prediction, Record

RECORD = Record(
    schema="click.v1.5a5d571e",
    source="web",
    id="A-1",
    time=1_727_999_999_995_001,
    received=1_728_000_000_000_000,
    client_time=1_727_999_999_995_001,
    available=1_728_000_000_000_000,
    subject="user_id=7",
    digest=bytes(range(16)),
    body=b"\x92\x07\x2a",
    flags=LATE,
)
RECORD_1 = bytes.fromhex(
    "9b"  # an array of 11
    "b1 636c69636b2e76312e3561356435373165"  # schema
    "a3 776562"  # source
    "a3 412d31"  # id
    "cf 0006239b5a2bec79"  # time
    "cf 0006239b5a2c0000"  # received
    "cf 0006239b5a2bec79"  # client_time
    "cf 0006239b5a2c0000"  # available
    "a9 757365725f69643d37"  # subject
    "c410 000102030405060708090a0b0c0d0e0f"  # digest
    "c403 92072a"  # body
    "01"  # flags: late
)
BATCH_1 = (
    bytes.fromhex(
        "464c5242"  # FLRB
        "01"  # format
        "00"  # codec: MessagePack
        "000000000000fffe"  # first offset, 65,534
        "00000002"  # rows
        "00000063"  # payload bytes
        "de38a07c"  # CRC-32 of all above and the payload
        "92"  # an array of 2
    )
    + RECORD_1
    + bytes.fromhex("c0")  # an erased row
)
PREDICTION_1 = bytes.fromhex(
    "9e"  # an array of 14
    "a9 7265636f6d6d656e64"  # capability
    "a6 72616e6b6572"  # model
    "02"  # version
    "64"  # as_of
    "09"  # folded_offset
    "81 a7 757365725f6964 07"  # keys
    "a7 6974656d5f6964"  # item
    "92 01 02"  # items
    "a4 63616665"  # columns
    "c404 0000803f"  # vectors, float32 little-endian
    "c408 000000000000f03f"  # scores, float64 little-endian
    "92 02 01"  # answer
    "91 a8 6e6f5f6d6f64656c"  # degraded
    "a3 722d31"  # request_id
)
PREDICTION = Prediction(
    capability="recommend",
    model="ranker",
    version=2,
    as_of=100,
    folded_offset=9,
    keys={"user_id": 7},
    item="item_id",
    items=[1, 2],
    columns="cafe",
    vectors=struct.pack("<f", 1),
    scores=struct.pack("<d", 1),
    answer=[2, 1],
    degraded=["no_model"],
    request_id="r-1",
)


def test_a_record_of_format_1():
    assert decode_record(RECORD_1) == RECORD
    assert encode_record(RECORD) == RECORD_1


def test_a_prediction_of_format_1():
    assert decode_prediction(PREDICTION_1) == PREDICTION
    assert encode_prediction(PREDICTION) == PREDICTION_1


def test_a_batch_of_format_1():
    assert decode_batch(BATCH_1) == (65_534, [RECORD, None])
    assert decode_batch(BATCH_1).end == 65_536
    assert encode_batch(65_534, [RECORD, None]) == BATCH_1


def test_the_key_of_a_name_of_format_1():
    key = bytes.fromhex(
        "00004e20"  # day 20,000: 2024-10-04
        "508009649aa59674"  # BLAKE2b of "web", 8 bytes
        "412d31"
    )
    assert identity.name_key(20_000, "web", "A-1") == key
    assert identity.day_of_key(key) == 20_000


def test_a_record_of_a_later_version_with_more_fields_is_still_read():
    longer = msgspec.msgpack.encode([*msgspec.msgpack.decode(RECORD_1), "new"])
    assert decode_record(longer) == RECORD


def _resealed(change: bytes, at: int) -> bytes:
    head = bytearray(BATCH_1[:22])
    head[at : at + len(change)] = change
    payload = BATCH_1[26:]
    checksum = zlib.crc32(payload, zlib.crc32(bytes(head)))
    return bytes(head) + checksum.to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (_resealed(b"\x02", 4), "format 2"),
        (_resealed(b"\x01", 5), "codec 1"),
        (_resealed(b"NOPE", 0), "begins with"),
        (_resealed(b"\x00\x00\x00\x03", 14), "3"),
        (b"", "shorter"),
        (BATCH_1 + b"\0", "checksum"),
    ],
)
def test_what_cannot_be_read_says_why(raw, says):
    with pytest.raises(CorruptData, match=says):
        decode_batch(raw)


@settings(deadline=None)
@given(st.integers(0, len(BATCH_1) - 1), st.integers(0, 7))
def test_every_flipped_bit_of_a_batch_is_found(place, bit):
    raw = BATCH_1[:place] + bytes([BATCH_1[place] ^ 1 << bit]) + BATCH_1[place + 1 :]
    with pytest.raises(CorruptData):
        decode_batch(raw)


@settings(deadline=None)
@given(st.integers(0, len(BATCH_1) - 1))
def test_every_torn_batch_is_found(size):
    with pytest.raises(CorruptData):
        decode_batch(BATCH_1[:size])


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_bytes_that_are_nothing_of_ours(raw):
    for decode in (decode_record, decode_prediction, decode_batch):
        with pytest.raises(CorruptData):
            decode(raw)


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_int64 = st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Record,
            *[_text] * 3,
            *[_int64] * 4,
            _text,
            st.binary(min_size=16, max_size=16),
            st.binary(max_size=40),
            st.integers(0, 3),
        )
        | st.none(),
        max_size=5,
    ),
    st.integers(0, 2**63),
)
def test_batches_survive_their_bytes(records, base):
    assert decode_batch(encode_batch(base, records)) == (base, records)


@settings(deadline=None)
@given(st.integers(0, 30_000), st.integers(0, 30_000), _text, _text)
def test_names_sort_by_day_first(early, late, source, id):
    early, late = sorted((early, late))
    if early < late and id:
        assert identity.name_key(early, source, id) < identity.day_prefix(late)


@pytest.mark.parametrize("id", ["", "x" * 65])
def test_an_impossible_id_has_no_key(id):
    with pytest.raises(InputError):
        identity.name_key(1, "web", id)
