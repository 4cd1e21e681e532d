"""Records with their fields apart are the same records."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feilun.records.codec import encode_batch
from feilun.records.record import IMPORTED, Record
from feilun.records.rows import Rows

_NUMBERS = st.integers(-(2**63), 2**63 - 1)
_RECORDS = st.builds(
    Record,
    schema=st.sampled_from(["a.v1", "b.v1"]),
    source=st.sampled_from(["web", "app"]),
    id=st.text(min_size=1, max_size=4),
    time=_NUMBERS,
    received=st.sampled_from([5, 6]),
    client_time=_NUMBERS,
    available=st.sampled_from([5, 6]),
    subject=st.sampled_from(["", "user_id=7"]),
    digest=st.binary(min_size=16, max_size=16),
    body=st.sampled_from([b"\x90", b"\x91\x07", b"no MessagePack"]),
    flags=st.sampled_from([0, IMPORTED]),
)
_LISTS = st.lists(_RECORDS, max_size=6)


@given(_LISTS, st.data())
def test_rows_are_a_sequence_of_their_records(records, data):
    rows = Rows.of(records)
    cut = data.draw(st.integers(0, len(records)))
    assert list(rows) == [rows[at] for at in range(len(rows))] == records
    assert Rows.of(rows) is rows
    assert list(rows[:cut]) + list(rows[cut:]) == records
    places = data.draw(st.permutations(range(len(records))))
    assert list(rows.chosen(places)) == [records[place] for place in places]


@given(st.lists(_LISTS, max_size=4))
def test_rows_that_are_joined_lie_one_behind_the_other(parts):
    joined = Rows.joined([Rows.of(part) for part in parts])
    assert list(joined) == [record for part in parts for record in part]


@given(_LISTS)
def test_rows_are_stored_as_their_records_are(records):
    assert encode_batch(3, Rows.of(records)) == encode_batch(3, records)
