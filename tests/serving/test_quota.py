"""How often a team may call: the bound as a law, several processes at once, and a broken file."""

import fcntl
import multiprocessing
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.serving.access import quota
from feilun.serving.access.quota import SECOND_NS, OwnQuota, SharedQuota, make_quota_file, step

RATES = st.one_of(st.sampled_from([0.001, 0.5, 1.0, 3.0, 7.0, 200.0]), st.floats(0.001, 10_000))
PAUSES = st.lists(st.integers(0, 3 * SECOND_NS), min_size=1, max_size=200)


class Time:
    def __init__(self):
        self.now = 10**15

    def __call__(self):
        return self.now


def let_in(rate, pauses):
    """Return when requests were let in, and for each that was not, when it was and its wait."""
    clock, passed, refused = Time(), [], []
    own = OwnQuota(clock)
    for pause in pauses:
        clock.now += pause
        wait = own.take(1, rate)
        if wait:
            refused.append((clock.now, wait))
        else:
            passed.append(clock.now)
    return passed, refused


@given(RATES, PAUSES)
def test_no_span_of_time_lets_in_more_than_its_share_and_a_burst(rate, pauses):
    passed, _ = let_in(rate, pauses)
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            seconds = (passed[last] - begin) / SECOND_NS
            assert last - first + 1 <= rate * seconds + max(1.0, rate) * (1 + 1e-4) + 1e-6


@given(RATES, PAUSES)
def test_who_keeps_to_the_pace_is_never_refused(rate, pauses):
    interval = int(SECOND_NS / rate) + 1
    _, refused = let_in(rate, [pause + interval for pause in pauses])
    assert refused == []


@given(RATES, st.integers(0, 3 * SECOND_NS))
def test_who_waits_as_told_is_let_in(rate, pause):
    clock = Time()
    own = OwnQuota(clock)
    wait = 0.0
    for _ in range(20_000):
        wait = own.take(1, rate)
        if wait:
            break
    assert 0 < wait <= 1 / rate + 1e-9
    clock.now += round(wait * SECOND_NS) + 1
    assert own.take(1, rate) == 0
    clock.now += pause
    assert own.take(2, rate) == 0, "teams have nothing to do with each other"


@pytest.mark.parametrize(
    ("rate", "burst"), [(0.5, 1), (1, 1), (3, 3), (7, 7), (9.9, 9), (200, 200)]
)
def test_a_rested_team_may_send_a_seconds_worth_at_once(rate, burst):
    passed, _ = let_in(rate, [SECOND_NS] + [0] * (2 * burst + 2))
    assert len(passed) == burst


@given(st.integers(-(2**63), 2**63 - 1), RATES)
def test_whatever_number_is_found_nobody_waits_longer_than_for_one_turn(done_at, rate):
    found = step(done_at, 10**15, rate)
    assert 0 <= found.wait <= SECOND_NS / rate + 1


@pytest.fixture
def path(tmp_path):
    make_quota_file(tmp_path / "quota")
    return tmp_path / "quota"


class TestTheFile:
    def test_it_is_its_owners_alone_and_begins_anew(self, path):
        SharedQuota(path, 2).take(3, 1)
        assert path.stat().st_mode & 0o777 == 0o600
        make_quota_file(path)
        assert path.stat().st_size == 0

    def test_two_that_share_it_are_one_quota(self, path):
        clock = Time()
        one, two = SharedQuota(path, 2, clock), SharedQuota(path, 2, clock)
        waits = [each.take(5, 10) for _ in range(8) for each in (one, two)]
        assert waits[:10] == [0.0] * 10
        assert all(wait > 0 for wait in waits[10:])
        assert one.take(6, 10) == 0
        assert one.problem() == two.problem() == ""

    @pytest.mark.parametrize("raw", [b"\xff" * 64, b"\x7f" * 64, b"\xff" * 13, b""])
    def test_whatever_stands_in_it_a_team_is_let_in_within_a_turn(self, path, raw):
        path.write_bytes(raw)
        clock = Time()
        shared = SharedQuota(path, 2, clock)
        clock.now += round(shared.take(1, 2) * SECOND_NS)
        assert shared.take(1, 2) == 0
        assert shared.problem() == ""

    def test_without_it_each_worker_lets_in_its_share(self, tmp_path, caplog):
        clock = Time()
        workers = [SharedQuota(tmp_path / "gone", 4, clock) for _ in range(4)]
        passed = sum(each.take(1, 20) == 0 for each in workers for _ in range(20))
        assert passed == 20
        assert "1/4" in workers[0].problem()
        assert caplog.text.count("cannot be used") == 4, "once a worker, not once a request"

    def test_it_is_used_again_once_it_is_there(self, tmp_path):
        shared = SharedQuota(tmp_path / "quota", 2, Time())
        shared.take(1, 2)
        assert shared.problem()
        make_quota_file(tmp_path / "quota")
        assert shared.take(1, 2) == 0
        assert shared.problem() == ""

    def test_a_full_disk_takes_the_share(self, monkeypatch, path):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        clock = Time()
        shared = SharedQuota(path, 2, clock)
        assert [shared.take(1, 4) == 0 for _ in range(3)] == [True, True, False]
        assert "No space left" in shared.problem()

    def test_a_folder_in_its_place_is_told_at_the_start(self, tmp_path, caplog):
        (tmp_path / "quota" / "x").mkdir(parents=True)
        make_quota_file(tmp_path / "quota")
        assert "cannot be made" in caplog.text
        assert SharedQuota(tmp_path / "quota", 2, Time()).take(1, 2) == 0


def holding(path, held, end):
    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 8, 8)
        held.set()
        end.wait(30)


def taking(path, rate, seconds, begin, answers):
    shared, passed = SharedQuota(path, 2), 0
    quota.LOCK_SECONDS = 60.0  # a busy machine may stop the other one within its turn
    begin.wait(60)
    started = time.monotonic_ns()
    while time.monotonic_ns() < started + seconds * SECOND_NS:
        passed += shared.take(1, rate) == 0
    answers.put((passed, started, time.monotonic_ns(), shared.problem()))


@pytest.fixture
def spawned():
    """Start functions in processes of their own, and end those alone."""
    context, processes = multiprocessing.get_context("spawn"), []

    def start(function, *arguments):
        processes.append(context.Process(target=function, args=arguments, daemon=True))
        processes[-1].start()

    yield context, start
    for process in processes:
        process.kill()
        process.join()


def test_a_worker_that_stopped_within_its_turn_holds_nobody_up_for_long(path, spawned):
    context, start = spawned
    held, end = context.Event(), context.Event()
    start(holding, path, held, end)
    assert held.wait(30)
    shared = SharedQuota(path, 2)
    begun = time.monotonic()
    assert shared.take(1, 4) == 0
    assert quota.LOCK_SECONDS <= time.monotonic() - begun < 20 * quota.LOCK_SECONDS
    assert shared.problem()
    assert shared.take(2, 4) == 0, "another team's number is not held"
    assert shared.problem() == ""


def test_processes_that_ask_at_once_get_the_quota_and_no_more(path, spawned):
    context, start = spawned
    rate, seconds = 500.0, 2
    begin, answers = context.Barrier(2), context.Queue()
    for _ in range(2):
        start(taking, path, rate, seconds, begin, answers)
    passed, started, ended, problems = zip(*(answers.get(timeout=90) for _ in "12"), strict=True)
    took = (max(ended) - min(started)) / SECOND_NS
    assert problems == ("", "")
    assert rate * seconds <= sum(passed) <= rate * (took + 1) + 1
    assert path.stat().st_size == 16
