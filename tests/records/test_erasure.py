"""Who is erased: by keyed hashes alone, and what speaks of them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.records.codec import encode_record
from feilun.records.erasure import KEY_BYTES, WITHHELD, Erasures, mentioned, withheld
from feilun.testing.records import START, make_record

KEY = bytes(KEY_BYTES)
MOMENTS = st.dictionaries(st.sampled_from(["a=1", "a=2", "b=1", "b=飞"]), st.integers(0, 9))


def listed(moments: dict[str, int]) -> Erasures:
    erasures = Erasures(KEY)
    for subject, moment in moments.items():
        erasures = erasures.adding([subject], moment)
    return erasures


@given(MOMENTS, MOMENTS)
def test_lists_merge_to_the_later_moment_in_any_order(
    one: dict[str, int], two: dict[str, int]
) -> None:
    both = listed(one).merged(listed(two).moments)
    assert both == listed(two).merged(listed(one).moments)
    assert not both.lacks(listed(one).moments)
    assert not both.lacks(listed(two).moments)
    for subject in ("a=1", "a=2", "b=1", "b=飞", "c=1"):
        known = [found[subject] for found in (one, two) if subject in found]
        assert both.moment(subject) == max(known, default=None)


def test_a_list_lacks_whom_it_has_not_or_has_earlier() -> None:
    known, wanted = listed({"a=1": 5}), listed({"a=1": 6, "a=2": 1})
    assert known.lacks(wanted.moments) == wanted.moments
    assert wanted.lacks(known.moments) == {}


def test_another_key_gives_other_names() -> None:
    assert Erasures.begun().name("a=1") != Erasures.begun().name("a=1")


def test_it_covers_what_was_before_the_moment() -> None:
    erasures = listed({"user=1": START + 5})
    assert erasures.covers(make_record("1", subject="user=1", time=START + 4))
    assert not erasures.covers(make_record("1", subject="user=1", time=START + 5))
    assert not erasures.covers(make_record("1", subject="user=2", time=START))
    assert not erasures.covers(make_record("1", time=START))


def test_records_that_were_refused_are_known_by_their_subject_and_time() -> None:
    erasures = listed({"user=1": START + 5})
    for subject, time, gone in [("user=1", 4, True), ("user=1", 5, False), ("user=2", 4, False)]:
        record = make_record("1", "user=1", subject=subject, time=START + time)
        refused, aside = encode_record(record), msgspec.msgpack.encode((7, record))
        assert mentioned(erasures, refused, 0) is gone
        assert mentioned(erasures, aside, 0) is gone


@given(st.binary(max_size=60), st.sampled_from([b'"user": 1', b"user=1", b"'user': '1'"]))
def test_a_name_beside_its_value_is_seen_in_any_bytes(noise: bytes, said: bytes) -> None:
    erasures = listed({"user=1": START})
    assert mentioned(erasures, b'{"n": 1, ' + said + b"," + noise, START - 1)
    assert not mentioned(erasures, b'{"n": 1, ' + said + b"," + noise, START)


@pytest.mark.parametrize(
    "raw", [b'{"user": 11}', b'{"users": 1}', b'{"user": [1]}', b"user 1", b""]
)
def test_what_only_looks_alike_is_not_taken_for_it(raw: bytes) -> None:
    assert not mentioned(listed({"user=1": START}), raw, 0)


def test_what_speaks_of_nobody_is_kept_as_it_is() -> None:
    items = [("why", b'{"user": 1}'), ("why", b'{"user": 2}')]
    assert withheld(None, items) == items
    assert withheld(listed({"user=1": START}), items) == [(WITHHELD, b""), items[1]]
