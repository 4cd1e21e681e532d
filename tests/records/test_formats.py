"""Format 1, byte by byte as docs/formats.md draws it. If one of these fails, a format has changed:
stored data must stay readable, so add a version beside it; never mend the bytes here."""

from __future__ import annotations

import struct
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.definitions.specs import EventSpec, FieldSpec
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
from feilun.records.schema import decode_schema, encode_schema

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
BATCH_OF_ROWS_1 = (
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
OTHER = Record(
    schema="view.v1.00000000",
    source="app",
    id="A-2",
    time=1_727_999_999_995_002,
    received=1_728_000_000_000_000,
    client_time=1_727_999_999_995_001,
    available=1_728_000_000_000_001,
    subject="",
    digest=bytes(range(16, 32)),
    body=b"\xc1",  # which begins no MessagePack value
)
THIRD = msgspec.structs.replace(RECORD, id="A-3", body=b"\x90")
BATCH_1 = bytes.fromhex(
    "464c5242"  # FLRB
    "01"  # format
    "01"  # codec: columns
    "000000000000fffa"  # first offset, 65,530
    "00000004"  # rows
    "00000111"  # payload bytes
    "127e23d0"  # CRC-32 of all above and the payload
    "9d"  # an array of 13
    "92"  # runs: two
    "94 b1 636c69636b2e76312e3561356435373165 02 c405 92 92072a 90 c2"  # schema, rows, bodies
    "94 b0 766965772e76312e3030303030303030 01 c404 91 c401c1 c3"  # each body in a bin
    "c406 0000 0300 0100"  # places: nothing is at 2
    "c408 79ec2b5a9b230600"  # client_time: one for all
    "c418 79ec2b5a9b230600 79ec2b5a9b230600 7aec2b5a9b230600"  # time
    "c408 00002c5a9b230600"  # received
    "c418 00002c5a9b230600 00002c5a9b230600 01002c5a9b230600"  # available
    "c418 3147bbccf6065582 84475c8d226ccb00 1f2d237be2b4e33a"  # tie
    "c403 01 01 00"  # flags
    "c430 000102030405060708090a0b0c0d0e0f 000102030405060708090a0b0c0d0e0f"
    "101112131415161718191a1b1c1d1e1f"  # digests
    "92 a3776562 a3617070"  # sources
    "c406 0000 0000 0100"  # source
    "c40d 93 a3412d31 a3412d33 a3412d32"  # id
    "c416 93 a9757365725f69643d37 a9757365725f69643d37 a0"  # subject
)
SHORT_BATCH_1 = bytes.fromhex(
    "464c5242 01 01 000000000000fffa 00000002 0000008e 89405f0e 9d"
    "91 94 b1 636c69636b2e76312e3561356435373165 02 c405 92 92072a 90 c2"
    "c400"  # places: 0, 1
    "c408 79ec2b5a9b230600"  # client_time: one for both
    "c400"  # time: as client_time
    "c408 00002c5a9b230600"  # received
    "c400"  # available: as received
    "c410 3147bbccf6065582 84475c8d226ccb00"  # tie
    "c401 01"  # flags: one for both
    "c420 000102030405060708090a0b0c0d0e0f 000102030405060708090a0b0c0d0e0f"
    "91 a3776562"  # sources
    "c400"  # source: the first
    "c409 92 a3412d31 a3412d33"
    "c40b 91 a9757365725f69643d37"  # subject: one for both
)
SCHEMA = EventSpec(
    "click", 2, (FieldSpec("user_id", "int"), FieldSpec("spot", "vector", True, 3)), None
)
SCHEMA_1 = bytes.fromhex(
    "93 a5 636c69636b 02 92"  # name, version, two fields
    "94 a7 757365725f6964 a3 696e74 c2 00"  # name, type, not optional, no vector
    "94 a4 73706f74 a6 766563746f72 c3 03"
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


def test_a_prediction_that_keeps_its_request():
    longer = b"\x9f" + PREDICTION_1[1:] + bytes.fromhex("81 a1 6e 0a")  # request: n = 10
    asked = msgspec.structs.replace(PREDICTION, request={"n": 10})
    assert decode_prediction(longer) == asked


def test_a_prediction_that_says_how_it_was_chosen():
    chosen = msgspec.structs.replace(
        PREDICTION,
        request={"n": 10},
        arm="challenger",
        propensity=0.25,
        rollout=3,
        exploration="epsilon(0.5, top=2)",
        list_propensity=0.75,
        item_propensities=struct.pack("<2d", 0.75, 0.75),
        reply=b"{}",
        encoders={"bge": "ab"},
    )
    longest = (
        b"\xdc\x00\x17"
        + PREDICTION_1[1:]
        + bytes.fromhex(
            "81 a1 6e 0a"  # request: n = 10
            "aa 6368616c6c656e676572"  # arm
            "cb 3fd0000000000000"  # propensity
            "03"  # rollout
            "b3 657073696c6f6e28302e352c20746f703d3229"  # exploration
            "cb 3fe8000000000000"  # list_propensity
            "c410 000000000000e83f 000000000000e83f"  # item_propensities, float64 little-endian
            "c402 7b7d"  # reply
            "81 a3 626765 a2 6162"  # encoders
        )
    )
    assert decode_prediction(longest) == chosen
    assert encode_prediction(chosen) == longest


def test_a_batch_of_rows_of_format_1():
    batch = decode_batch(BATCH_OF_ROWS_1)
    assert batch.records() == [(65_534, RECORD)]
    assert (batch.base, batch.end) == (65_534, 65_536)


def test_a_batch_of_columns_of_format_1():
    batch = decode_batch(BATCH_1)
    assert batch.records() == [(65_530, RECORD), (65_531, OTHER), (65_533, THIRD)]
    assert (batch.base, batch.end) == (65_530, 65_534)
    assert encode_batch(65_530, [RECORD, OTHER, None, THIRD]) == BATCH_1


def test_a_short_batch_of_columns_of_format_1():
    assert decode_batch(SHORT_BATCH_1).records() == [(65_530, RECORD), (65_531, THIRD)]
    assert encode_batch(65_530, [RECORD, THIRD]) == SHORT_BATCH_1


def test_a_schema_of_format_1():
    assert decode_schema(SCHEMA_1) == SCHEMA
    assert encode_schema(SCHEMA) == SCHEMA_1


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
        (_resealed(b"\x02", 5), "codec 2"),
        (_resealed(b"\x00", 5), "cannot be read"),
        (_resealed(b"NOPE", 0), "begins with"),
        (_resealed(b"\x00\x00\x00\x02", 14), "holds 3 rows where its header says 2"),
        (b"", "shorter"),
        (BATCH_1 + b"\0", "checksum"),
    ],
)
def test_what_cannot_be_read_says_why(raw, says):
    with pytest.raises(CorruptData, match=says):
        decode_batch(raw)


@settings(deadline=None)
@given(st.sampled_from([BATCH_OF_ROWS_1, BATCH_1]), st.data())
def test_every_flipped_bit_of_a_batch_is_found(whole, data):
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    raw = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
    with pytest.raises(CorruptData):
        decode_batch(raw)


@settings(deadline=None)
@given(st.sampled_from([BATCH_OF_ROWS_1, BATCH_1]), st.data())
def test_every_torn_batch_is_found(whole, data):
    with pytest.raises(CorruptData):
        decode_batch(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_bytes_that_are_nothing_of_ours(raw):
    for decode in (decode_record, decode_prediction, decode_batch, decode_schema):
        with pytest.raises(CorruptData):
            decode(raw)


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


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
