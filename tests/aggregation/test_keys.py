import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.aggregation import Column, EventFrame, encode_key, encode_values
from feilun.aggregation.keys import group_keys, match_keys
from feilun.definitions.specs import EntitySpec
from feilun.errors import InputError

USER, CITY = EntitySpec("user", "int"), EntitySpec("city", "str")
int64 = st.integers(-(2**63), 2**63 - 1)
text = st.text(max_size=5)


def test_an_int_is_eight_bytes_with_the_sign_bit_flipped():
    assert encode_key((USER,), (1,)) == bytes.fromhex("8000000000000001")
    assert encode_key((USER,), (-(2**63),)) == bytes(8)
    assert encode_key((USER,), (np.int64(-1),)) == bytes.fromhex("7fffffffffffffff")


def test_a_str_is_utf8_after_its_length():
    assert encode_key((CITY,), ("北京",)) == b"\x00\x06" + "北京".encode()


def test_a_composite_is_its_parts_and_no_entity_is_nothing():
    assert encode_key((CITY, USER), ("a", 2)) == b"\x00\x01a" + bytes.fromhex("8000000000000002")
    assert encode_key((), ()) == b""


@settings(deadline=None)
@given(
    st.one_of(st.lists(int64, max_size=40), st.lists(text, max_size=40)), st.binary(), st.binary()
)
def test_many_are_each_between_what_stands_around_them(values, before, after):
    entity = USER if values and isinstance(values[0], int) else CITY
    expected = [before + encode_key((entity,), (value,)) + after for value in values]
    assert encode_values(entity, values, before, after) == expected


@settings(deadline=None)
@given(int64, int64)
def test_bytes_of_ints_sort_as_ints(a, b):
    assert (encode_key((USER,), (a,)) < encode_key((USER,), (b,))) == (a < b)


@settings(deadline=None)
@given(st.tuples(text, text), st.tuples(text, text))
def test_different_keys_have_different_bytes(a, b):
    pair = (CITY, EntitySpec("street", "str"))
    assert (encode_key(pair, a) == encode_key(pair, b)) == (a == b)


@pytest.mark.parametrize(
    ("entity", "value", "words"),
    [
        (USER, True, "user must be an int"),
        (USER, "1", "user must be an int"),
        (USER, 1.0, "user must be an int"),
        (USER, None, "user must be an int"),
        (USER, 2**63, "64 bits"),
        (USER, -(2**63) - 1, "64 bits"),
        (CITY, 1, "city must be a str"),
        (CITY, b"a", "city must be a str"),
        (CITY, "北" * 67, "201 bytes"),
        (CITY, "\ud800", "Unicode"),
    ],
)
def test_what_is_no_key_is_refused(entity, value, words):
    with pytest.raises(InputError, match=words):
        encode_key((entity,), (value,))


def test_a_key_of_200_bytes_is_taken():
    assert len(encode_key((CITY,), ("a" * 200,))) == 202


def test_the_number_of_values_must_fit():
    with pytest.raises(InputError, match="needs 2 values, not 1"):
        encode_key((USER, CITY), (1,))


@settings(deadline=None)
@given(st.lists(st.tuples(int64, text), max_size=20), st.sampled_from(["", "u", "c", "uc", "cu"]))
def test_grouping_a_column_is_encoding_each_value(rows, order):
    entities = tuple({"u": USER, "c": CITY}[letter] for letter in order)
    present = np.ones(len(rows), np.bool_)
    columns = {
        "user": Column(np.array([user for user, _ in rows], np.int64), present),
        "city": Column(np.array([city for _, city in rows], object), present),
    }
    zeros = np.zeros(len(rows), np.int64)
    keys, codes = group_keys(entities, EventFrame(zeros, zeros.astype(np.uint64), zeros, columns))
    values = [{"u": user, "c": city} for user, city in rows]
    expected = [encode_key(entities, [row[letter] for letter in order]) for row in values]
    assert [keys[code] for code in codes] == expected
    assert keys == sorted(set(expected))


@settings(deadline=None)
@given(
    st.sampled_from([(0, 9), (-4, 4), (10**6, 10**6 + 9), (-(2**63), 2**63 - 1)]),
    st.data(),
)
def test_equal_keys_have_equal_numbers_and_an_unknown_key_has_none(bounds, data):
    pair = st.tuples(st.integers(*bounds), st.sampled_from("abc"))
    had = data.draw(st.lists(pair, max_size=20))
    asked = data.draw(st.lists(pair, max_size=20))
    users, cities = (np.array([key[0] for key in had], np.int64), [key[1] for key in had])
    present = np.ones(len(had), np.bool_)
    columns = {
        "user": Column(users, present),
        "city": Column(np.array(cities, object), present),
    }
    times = np.zeros(len(had), np.int64)
    events = EventFrame(times, times.astype(np.uint64), times, columns)
    wanted = {"user": [key[0] for key in asked], "city": [key[1] for key in asked]}
    for entities, key_of in (
        ((USER,), lambda key: key[0]),
        ((CITY,), lambda key: key[1]),
        ((USER, CITY), lambda key: key),
        ((CITY, USER), lambda key: key),
    ):
        codes, found = match_keys(entities, events, wanted, len(asked))
        number = dict(zip(map(key_of, had), codes.tolist(), strict=True))
        assert len(set(number.values())) == len(number)
        assert [number[key_of(key)] for key in had] == codes.tolist()
        known = [number.get(key_of(key)) for key in asked]
        # A number that no event has is as unknown as -1.
        seen = [code if code in set(codes.tolist()) else None for code in found.tolist()]
        assert seen == known
