"""The exam of an ``EventLog``: subclass ``EventLogConformance`` and say how to open one."""

# ruff: noqa: D102  (a test's name is its sentence)

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from feilun.clock import DAY, HOUR
from feilun.errors import Conflict, InputError
from feilun.ports.event_log import Appended, Count, Covered, EventLog, Named
from feilun.records.codec import decode_record
from feilun.records.erasure import KEY_BYTES, Erasures
from feilun.records.record import IMPORTED, LATE, Record
from feilun.records.schema import SCHEMA_ID_LIMIT
from feilun.testing.fakes import MemoryLog
from feilun.testing.records import START, make_record

WHO = "user=somebody"
_DAYS = 7
_SHARED = [HealthCheck.differing_executors]  # the subclasses share these tests on purpose


@st.composite
def _histories(draw: st.DrawFn) -> list[list[Record]]:
    """Draw appends with resends, conflicts, late events, imports and clocks that jump both ways.

    In half of them nothing is late, and an append is of imported records or of others, as most are.
    """
    calm = draw(st.booleans())
    flags = [draw(st.sampled_from([0, 0, IMPORTED]))] if calm else [0, 0, 0, IMPORTED]
    days = st.integers(-1, 1) if calm else st.integers(-20, 20)
    return [
        [
            make_record(
                draw(st.sampled_from("abc")),
                draw(st.integers(0, 1)),
                time=START + draw(days) * DAY,
                received=START + draw(days) * DAY,
                source=draw(st.sampled_from(["web", "app"])),
                subject=draw(st.sampled_from(["", "user=a", "user=b"])),
                flags=draw(st.sampled_from(flags)),
            )
            for _ in range(draw(st.integers(0, 8)))
        ]
        for _ in range(draw(st.integers(1, 6)))
    ]


def erased(subject: str, moment: int = START + 10_000 * DAY) -> Erasures:
    """Return a list with one subject on it."""
    return Erasures(b"k" * KEY_BYTES).adding([subject], moment)


class EventLogConformance:
    """What every ``EventLog`` must do. ``reopens`` says whether it outlives its object."""

    reopens: ClassVar[bool] = True

    def open(self, folder: Path) -> EventLog:
        """Open the log of ``folder`` with a window of seven days."""
        raise NotImplementedError

    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[EventLog]:
        """Open a log for one test."""
        log = self.open(tmp_path / "log")
        yield log
        log.close()

    def test_an_empty_log(self, log: EventLog) -> None:
        assert log.end() == 0
        assert log.read(0) == []
        assert log.bad() == []
        assert log.append([]) == []

    def test_records_come_back_in_order_with_their_offsets(self, log: EventLog) -> None:
        records = [make_record(str(n), n, subject=f"user_id={n % 3}") for n in range(10)]
        parts = records[:4], records[4:5], records[5:]
        answers = [answer for part in parts for answer in log.append(part)]
        assert answers == [Appended("accepted", n) for n in range(10)]
        assert log.read(0) == list(enumerate(records))
        assert log.end() == 10

    @pytest.mark.parametrize(("start", "limit"), [(0, 3), (2, 3), (3, 100), (9, 1), (5, 0)])
    def test_a_read_may_begin_and_end_anywhere(self, log: EventLog, start: int, limit: int) -> None:
        records = [make_record(str(n), n) for n in range(10)]
        log.append(records[:4])
        log.append(records[4:])
        assert log.read(start, limit) == list(enumerate(records))[start : start + limit]

    def test_a_read_at_or_past_the_end_is_empty(self, log: EventLog) -> None:
        log.append([make_record("1")])
        assert log.read(1) == []
        assert log.read(100) == []

    def test_a_read_before_the_beginning_is_refused(self, log: EventLog) -> None:
        with pytest.raises(InputError):
            log.read(-1)
        with pytest.raises(InputError):
            log.read_batches(-1)

    @pytest.mark.parametrize(("start", "limit"), [(0, 3), (2, 3), (3, 100), (9, 1), (5, 0)])
    def test_batches_hold_the_same_records(self, log: EventLog, start: int, limit: int) -> None:
        records = [make_record(str(n), n, schema=f"click.v{n % 2}") for n in range(10)]
        log.append(records[:4])
        log.append(records[4:])
        batches = log.read_batches(start, limit)
        assert [pair for batch in batches for pair in batch.records()] == log.read(start, limit)
        ends = [batch.end for batch in batches]
        assert [batch.base for batch in batches] == [start, *ends][: len(ends)]
        assert ends[-1:] == [min(start + limit, 10)][: len(ends)]

    def test_batches_at_or_past_the_end_are_none(self, log: EventLog) -> None:
        assert log.read_batches(0) == []
        log.append([make_record("1")])
        assert log.read_batches(1) == []
        assert log.read_batches(100) == []

    def test_batches_of_more_records_than_any_segment_holds(self, log: EventLog) -> None:
        log.append([make_record(str(n), n) for n in range(70_000)])
        batches = log.read_batches(10, 69_980)
        assert sum(map(len, batches)) == 69_980
        assert batches[-1].end == 69_990
        assert [n for batch in batches for n in batch.offsets.tolist()] == list(range(10, 69_990))

    def test_what_schemas_mean_is_kept(self, log: EventLog) -> None:
        assert log.schemas() == {}
        log.declare({})
        log.declare({"click.v1": b"one"})
        log.declare({"click.v1": b"one", "飞轮.v1": b"", "view.v1": b"two"})
        assert log.schemas() == {"click.v1": b"one", "view.v1": b"two", "飞轮.v1": b""}
        assert log.end() == 0

    def test_a_schema_never_gets_a_second_meaning(self, log: EventLog) -> None:
        log.declare({"click.v1": b"one"})
        with pytest.raises(Conflict, match=r"click\.v1"):
            log.declare({"view.v1": b"two", "click.v1": b"other"})
        assert log.schemas() == {"click.v1": b"one"}

    def test_what_is_stored_is_counted_by_schema(self, log: EventLog) -> None:
        assert log.counts() == {}
        click, view = make_record("1", 1), make_record("1", 2, source="app", schema="view.v1")
        log.append([click, make_record("2", 2), view])
        log.append([click, make_record("1", 9)])  # a duplicate and a conflict
        assert log.counts() == {"click.v1.00000000": Count(2, 0), "view.v1": Count(1, 0)}
        old = make_record("3", time=START - 30 * DAY, received=START)
        imported = make_record("4", time=START - 30 * DAY, received=START, flags=IMPORTED)
        log.append([old, imported, old])
        log.append([old])
        assert log.counts() == {"click.v1.00000000": Count(4, 1), "view.v1": Count(1, 0)}

    @pytest.mark.parametrize("id", ["", "x" * (SCHEMA_ID_LIMIT + 1), "飞" * 167])
    def test_an_impossible_schema_id_stores_nothing(self, log: EventLog, id: str) -> None:
        with pytest.raises(InputError):
            log.declare({"view.v1": b"two", id: b"one"})
        assert log.schemas() == {}
        log.declare({"x" * SCHEMA_ID_LIMIT: b"longest"})
        assert len(log.schemas()) == 1

    def test_more_records_than_any_segment_holds(self, log: EventLog) -> None:
        records = [make_record(str(n), n) for n in range(70_000)]
        log.append(records[:10])
        log.append(records[10:])
        assert [record.id for _, record in log.read(65_530, 10)] == [
            str(n) for n in range(65_530, 65_540)
        ]
        assert log.end() == 70_000

    def test_a_resend_is_a_duplicate_of_the_first(self, log: EventLog) -> None:
        log.append([make_record("0")])
        record = make_record("1", 5)
        assert log.append([record, record]) == [
            Appended("accepted", 1),
            Appended("duplicate", 1),
        ]
        later = make_record("1", 5, received=START + 2 * DAY)
        assert log.append([later]) == [Appended("duplicate", 1)]
        assert log.end() == 2

    def test_a_name_is_found_on_its_day_until_the_record_is_erased(self, log: EventLog) -> None:
        assert log.find("web", "1", START) is None
        record = make_record("1", 5, subject=WHO)
        log.append([make_record("0"), record, record, make_record("1", 6)])
        found = Named(1, record.digest)
        assert log.find("web", "1", START) == found
        assert log.find("web", "1", START // DAY * DAY) == found
        assert log.find("web", "1", START + DAY) is None
        assert log.find("app", "1", START) is None
        assert log.find("web", "2", START) is None
        with pytest.raises(InputError):
            log.find("web", "", START)
        log.erase(erased(WHO), [WHO])
        assert log.find("web", "1", START) is None
        assert log.find("web", "0", START) == Named(0, make_record("0").digest)

    def test_duplicates_among_new_records_leave_no_gaps(self, log: EventLog) -> None:
        records = [make_record(str(n % 7), n % 7) for n in range(20)]
        log.append(records[3:5])
        answers = log.append([*records, make_record("6", "other")])
        assert [(a.status, a.offset) for a in answers[:7]] == [
            ("accepted", 2), ("accepted", 3), ("accepted", 4), ("duplicate", 0),
            ("duplicate", 1), ("accepted", 5), ("accepted", 6),
        ]  # fmt: skip
        assert answers[7:20] == [Appended("duplicate", answers[n % 7].offset) for n in range(7, 20)]
        assert answers[20] == Appended("conflict", -1)
        assert "at offset 6" in log.bad()[0].reason
        assert [record.id for _, record in log.read(0)] == list("3401256")
        assert log.append(records[5:7]) == [Appended("duplicate", 5), Appended("duplicate", 6)]

    def test_the_same_id_of_another_source_is_another_record(self, log: EventLog) -> None:
        answers = log.append([make_record("1", source="web"), make_record("1", source="app")])
        assert [a.status for a in answers] == ["accepted", "accepted"]

    def test_the_same_id_with_another_body_is_refused_and_kept(self, log: EventLog) -> None:
        first, second = make_record("1", 5), make_record("1", 6)
        assert log.append([first, second]) == [Appended("accepted", 0), Appended("conflict", -1)]
        (bad,) = log.bad()
        assert bad.source == "web"
        assert first.digest.hex() in bad.reason
        assert second.digest.hex() in bad.reason
        assert second.body in bad.raw
        assert log.read(0) == [(0, first)]

    def test_an_event_of_a_closed_day_is_late_once(self, log: EventLog) -> None:
        log.append([make_record("new", time=START + 8 * DAY)])
        old = make_record("old", time=START, received=START + 8 * DAY)
        assert log.append([old, old]) == [Appended("late", 1), Appended("duplicate", 1)]
        assert log.append([old]) == [Appended("duplicate", 1)]
        ((_, stored),) = log.read(1)
        assert stored.flags & LATE
        assert stored.id == "old"

    def test_a_resend_after_its_day_closed_is_late_not_counted(self, log: EventLog) -> None:
        record = make_record("1", 5)
        log.append([record])
        resent = make_record("1", 5, received=START + 9 * DAY)
        assert log.append([resent]) == [Appended("late", 1)]

    def test_seven_whole_days_are_open(self, log: EventLog) -> None:
        now = START + 7 * DAY + 23 * HOUR
        log.append([make_record("new", time=now)])
        old = make_record("old", time=START, received=now)
        assert log.append([old])[0].status == "accepted"

    def test_a_clock_set_back_opens_no_closed_day(self, log: EventLog) -> None:
        record = make_record("1", 5)
        log.append([record])
        log.append([make_record("2", time=START + 30 * DAY)])
        assert log.append([record]) == [Appended("late", 2)]

    def test_a_clock_that_jumped_ahead_for_a_moment_does_not_close_the_future(
        self, log: EventLog
    ) -> None:
        log.append([make_record("1")])
        log.append([make_record("2", time=START, received=START + 3650 * DAY)])
        after = make_record("3", time=START + DAY)
        assert log.append([after])[0].status == "accepted"

    def test_imported_history_is_never_late_and_never_twice(self, log: EventLog) -> None:
        now = START + 4000 * DAY
        old = make_record("1", received=now, flags=IMPORTED)
        assert log.append([old])[0].status == "accepted"
        again = make_record("1", received=now + 400 * DAY, flags=IMPORTED)
        log.append([make_record("live", time=now + 400 * DAY)])
        assert log.append([again]) == [Appended("duplicate", 0)]

    def test_what_cannot_be_used_is_kept(self, log: EventLog) -> None:
        assert log.keep_bad("web", "not JSON", b"\xff\x00{", START) == 0
        assert log.keep_bad("app", "unknown event", b"{}", START + 1) == 1
        first, second = log.bad()
        assert first == (0, START, "web", "not JSON", b"\xff\x00{")
        assert log.bad(1) == [second]
        assert log.bad(0, 1) == [first]
        assert log.end() == 0

    @pytest.mark.parametrize("id", ["", "x" * 65])
    def test_an_impossible_id_stores_nothing(self, log: EventLog, id: str) -> None:
        with pytest.raises(InputError):
            log.append([make_record("1"), make_record(id)])
        assert log.end() == 0
        assert log.append([make_record("1")]) == [Appended("accepted", 0)]

    def test_any_characters_in_ids_and_subjects(self, log: EventLog) -> None:
        record = make_record("飞" * 64, "轮", subject="user=飞轮\x1f")
        log.append([record])
        assert log.append([record]) == [Appended("duplicate", 0)]
        assert log.read(0) == [(0, record)]

    def test_threads_append_at_once(self, log: EventLog) -> None:
        answers: list[Appended] = []

        def send(thread: int) -> None:
            for n in range(20):
                answers.extend(log.append([make_record(f"{thread}-{n}"), make_record(f"all-{n}")]))

        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        accepted = [answer.offset for answer in answers if answer.status == "accepted"]
        assert sorted(accepted) == list(range(100))
        assert len({record.id for _, record in log.read(0)}) == log.end() == 100

    def test_everything_is_there_after_reopening(self, tmp_path: Path) -> None:
        if not self.reopens:
            pytest.skip("this log does not outlive its object")
        log = self.open(tmp_path / "log")
        records = [make_record(str(n), n) for n in range(5)]
        late = make_record("late", time=START - 30 * DAY, received=START)
        log.append([*records, late])
        log.keep_bad("web", "why", b"raw", START)
        log.declare({"click.v1": b"its fields"})
        log.close()
        log = self.open(tmp_path / "log")
        try:
            assert log.end() == 6
            assert log.schemas() == {"click.v1": b"its fields"}
            assert log.counts() == {"click.v1.00000000": Count(6, 1)}
            assert log.read(0)[:5] == list(enumerate(records))
            assert [b.reason for b in log.bad()] == ["why"]
            assert log.append([records[3], late]) == [
                Appended("duplicate", 3),
                Appended("duplicate", 5),
            ]
            assert log.append([make_record("3", 99)]) == [Appended("conflict", -1)]
        finally:
            log.close()

    def test_nobody_is_erased_at_first(self, log: EventLog) -> None:
        assert log.erasures() is None
        log.append([make_record("1", subject=WHO)])
        assert log.covered(erased(WHO), [WHO]) == Covered([0], START)
        assert log.covered(erased("user=other")) == Covered([], 0)

    def test_what_is_erased_is_gone_and_offsets_stay(self, log: EventLog) -> None:
        records = [make_record(str(n), n, subject=f"user={n % 3}") for n in range(9)]
        assert log.damaged() == []
        log.append(records[:5])
        log.append(records[5:])
        assert log.damaged() == []
        assert log.erase(erased("user=1"), ["user=1"]) == 3
        assert log.damaged() == []
        left = [(n, record) for n, record in enumerate(records) if n % 3 != 1]
        assert log.read(0) == left
        assert [pair for batch in log.read_batches(0) for pair in batch.records()] == left
        assert log.read_batches(0)[-1].end == log.end() == 9
        assert log.read(7) == [(8, records[8])]
        assert log.erase(erased("user=1"), ["user=1"]) == 0
        assert log.append([make_record("next")]) == [Appended("accepted", 9)]

    def test_a_log_of_nothing_but_the_erased_can_be_read(self, log: EventLog) -> None:
        log.append([make_record(str(n), subject=WHO) for n in range(3)])
        assert log.erase(erased(WHO)) == 3
        assert log.read(0) == []
        assert log.read_batches(0)[-1].end == log.end() == 3

    def test_what_is_erased_does_not_come_back(self, log: EventLog) -> None:
        old = make_record("1", 7, subject=WHO)
        ahead = make_record("2", time=START + 2 * DAY, received=START, subject=WHO)
        ahead = structs.replace(ahead, time=START)  # a client's clock was two days ahead
        other = make_record("3", subject="user=other")
        log.append([old, ahead, other])
        log.erase(erased(WHO, START + 1), [WHO])
        again = structs.replace(ahead, time=START + DAY)  # and says so no more
        assert log.append([other, old, again]) == [
            Appended("duplicate", 2),
            Appended("erased", -1),
            Appended("erased", -1),
        ]
        imported = make_record("as from a file", 7, subject=WHO, flags=IMPORTED)
        assert log.append([imported]) == [Appended("erased", -1)]
        assert log.end() == 3

    def test_who_comes_back_is_new(self, log: EventLog) -> None:
        log.append([make_record("1", subject=WHO)])
        log.erase(erased(WHO, START + 1), [WHO])
        new = make_record("2", time=START + 1, subject=WHO)
        assert log.append([new, new]) == [Appended("accepted", 1), Appended("duplicate", 1)]
        assert log.erase(erased(WHO, START + 1), [WHO]) == 0
        assert log.read(0) == [(1, new)]
        assert log.erase(erased(WHO, START + 2), [WHO]) == 1
        assert log.read(0) == []
        assert log.append([new]) == [Appended("erased", -1)]

    def test_erasures_add_up_and_later_moments_stay(self, log: EventLog) -> None:
        log.append([make_record("1", subject=WHO), make_record("2", subject="user=2")])
        log.erase(erased(WHO, START + 9), [WHO])
        log.erase(erased(WHO, START + 1).adding(["user=2"], START + 1), ["user=2"])
        known = log.erasures()
        assert known is not None
        assert (known.moment(WHO), known.moment("user=2")) == (START + 9, START + 1)
        assert log.read(0) == []

    def test_what_schemas_mean_and_other_peoples_names_outlive_an_erasure(
        self, log: EventLog
    ) -> None:
        log.declare({"click.v1": b"its fields"})
        late = make_record("late", time=START - 30 * DAY, received=START)
        log.append([make_record("1"), late, make_record("2", flags=IMPORTED)])
        log.erase(erased(WHO))
        assert log.schemas() == {"click.v1": b"its fields"}
        assert [a.status for a in log.append([make_record("1"), late])] == ["duplicate"] * 2
        assert log.append([make_record("2", flags=IMPORTED)]) == [Appended("duplicate", 2)]
        assert log.append([make_record("1", "other")]) == [Appended("conflict", -1)]

    @pytest.mark.parametrize(
        ("raw", "stays"),
        [
            (b'{"user": "somebody", "n": 1}', False),
            (b'[{"a": [{"user": "some\\u0062ody"}]}]', False),
            (b'{"user": "somebody", "cut sho', False),
            (b"{'user': 'somebody', 'at': datetime(2024, 1, 1)}", False),
            (b"user=somebody&n=1", False),
            (b'{"user": "somebody else", "friend": "somebody"}', True),
            (b"\xff\x00", True),
        ],
    )
    def test_bad_events_that_speak_of_the_erased_go(
        self, log: EventLog, raw: bytes, stays: bool
    ) -> None:
        log.keep_bad("web", "why", raw, START)
        log.keep_bad("web", "late", raw, START + DAY)
        log.erase(erased(WHO, START + 1), [WHO])
        assert [bad.number for bad in log.bad()] == ([0, 1] if stays else [1])
        assert log.keep_bad("web", "why", raw, START) == 2
        assert log.bad(2)[0].raw == (raw if stays else b"")

    def test_refused_records_of_the_erased_go_from_the_bad_events(self, log: EventLog) -> None:
        log.append([make_record("1", 1, subject=WHO), make_record("2", 1)])
        log.append([make_record("1", 2, subject=WHO), make_record("2", 2)])
        log.erase(erased(WHO), [WHO])
        assert [decode_record(bad.raw).id for bad in log.bad()] == ["2"]

    def test_erasures_are_there_after_reopening(self, tmp_path: Path) -> None:
        if not self.reopens:
            pytest.skip("this log does not outlive its object")
        log = self.open(tmp_path / "log")
        record = make_record("1", subject=WHO)
        log.append([record, make_record("2")])
        log.erase(erased(WHO), [WHO])
        log.close()
        log = self.open(tmp_path / "log")
        try:
            assert log.erasures() == erased(WHO)
            assert log.append([record]) == [Appended("erased", -1)]
            assert [offset for offset, _ in log.read(0)] == [1]
        finally:
            log.close()

    def test_a_day_that_erasure_left_without_names_is_not_closed(self, log: EventLog) -> None:
        """A clock runs nine days ahead for a moment; nothing is known of the day any more."""
        log.append([make_record("a", time=START + DAY, received=START, subject="user=a")])
        assert log.erase(erased("user=a", START + 2 * DAY), ["user=a"]) == 1
        assert (
            log.append([make_record("a", time=START, received=START + 9 * DAY)])[0].status == "late"
        )
        after = make_record("a", time=START + DAY, received=START)
        assert log.append([after])[0].status == "accepted"

    @settings(max_examples=25, deadline=None, suppress_health_check=_SHARED)
    @given(history=_histories(), known=st.booleans(), cut=st.integers(-20, 20))
    def test_it_erases_as_the_log_in_memory_does(
        self, history: list[list[Record]], known: bool, cut: int
    ) -> None:
        model = MemoryLog(dedup_days=_DAYS)
        middle = len(history) // 2
        with tempfile.TemporaryDirectory() as folder:
            log = self.open(Path(folder) / "log")
            try:
                for records in history[:middle]:
                    assert log.append(records) == model.append(records)
                erasures, whom = erased("user=a", START + cut * DAY), ["user=a"] * known
                assert log.covered(erasures, whom) == model.covered(erasures)
                assert log.erase(erasures, whom) == model.erase(erasures)
                for records in history:
                    assert log.append(records) == model.append(records)
                assert log.read(0) == model.read(0)
                assert log.bad() == model.bad()
            finally:
                log.close()
        assert not any(erasures.covers(record) for _, record in model.read(0))

    @settings(max_examples=40, deadline=None, suppress_health_check=_SHARED)
    @given(history=_histories())
    def test_it_answers_as_the_log_in_memory_does(self, history: list[list[Record]]) -> None:
        model = MemoryLog(dedup_days=_DAYS)
        with tempfile.TemporaryDirectory() as folder:
            log = self.open(Path(folder) / "log")
            try:
                for records in history:
                    assert log.append(records) == model.append(records)
                assert log.read(0) == model.read(0)
                batches = log.read_batches(0)
                assert [pair for batch in batches for pair in batch.records()] == model.read(0)
                assert log.bad() == model.bad()
            finally:
                log.close()

    @settings(max_examples=40, deadline=None, suppress_health_check=_SHARED)
    @given(history=_histories())
    def test_no_name_takes_effect_twice(self, history: list[list[Record]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            log = self.open(Path(folder) / "log")
            try:
                for records in history:
                    log.append(records)
                stored = [record for _, record in log.read(0)]
            finally:
                log.close()
        names = [
            (r.source, r.id, r.client_time, bool(r.flags & IMPORTED))
            for r in stored
            if not r.flags & LATE
        ]
        assert len(names) == len(set(names))
