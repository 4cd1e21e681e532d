"""The exam of an ``OnlineStore``: subclass ``OnlineStoreConformance``, say how to open one."""

# ruff: noqa: D102  (a test's name is its sentence)

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feilun.errors import Fenced, InputError
from feilun.ports.online_store import KEY_LIMIT, Mark, OnlineStore

_SHARED = [HealthCheck.differing_executors]  # the subclasses share these tests on purpose
_keys = st.binary(min_size=1, max_size=3)
_commits = st.lists(st.lists(st.tuples(_keys, st.binary(max_size=20)), max_size=6), max_size=6)


class OnlineStoreConformance:
    """What every ``OnlineStore`` must do. ``reopens`` says whether it outlives its object."""

    reopens: ClassVar[bool] = True

    def open(self, folder: Path) -> OnlineStore:
        """Open the store of ``folder``."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[OnlineStore]:
        """Open a store for one test."""
        store = self.open(tmp_path / "store")
        yield store
        store.close()

    def test_an_empty_store(self, store: OnlineStore) -> None:
        with store.snapshot() as moment:
            assert moment.mark() == Mark(0, 0)
            assert moment.get_many([b"a", b""]) == [None, None]
            assert moment.get_many([]) == []

    def test_values_come_back_in_the_order_of_the_keys(self, store: OnlineStore) -> None:
        store.commit([(b"a", b"1"), (b"b", b""), (b"c", b"\x00" * 9)], 0, Mark(5, 50))
        with store.snapshot() as moment:
            assert moment.get_many([b"c", b"x", b"a", b"a", b"b"]) == [
                b"\x00" * 9,
                None,
                b"1",
                b"1",
                b"",
            ]
            assert [moment.get(b"c"), moment.get(b"x")] == [b"\x00" * 9, None]
            assert moment.mark() == Mark(5, 50)

    def test_discarding_takes_only_what_begins_so(self, store: OnlineStore) -> None:
        store.commit([(key, b"1") for key in (b"a", b"ba", b"bb", b"bc", b"c")], 0, Mark(1, 1))
        assert [store.discard(b"b", 2), store.discard(b"b", 2), store.discard(b"b", 2)] == [2, 1, 0]
        assert store.discard(b"x", 9) == 0
        with store.snapshot() as moment:
            assert moment.get_many([b"a", b"ba", b"bb", b"bc", b"c"]) == [
                b"1",
                None,
                None,
                None,
                b"1",
            ]
            assert moment.mark() == Mark(1, 1)

    def test_a_scan_goes_through_all_keys_in_their_order(self, store: OnlineStore) -> None:
        with store.snapshot() as moment:
            assert moment.scan(b"", 9) == []
        pairs = [(b"\x00", b""), (b"a", b"1"), (b"a\x00", b"2"), (b"b", b"3"), (b"\xff" * 9, b"4")]
        store.commit(pairs[::-1], 0, Mark(1, 1))
        with store.snapshot() as moment:
            store.commit([(b"aa", b"5")], 1, Mark(2, 1))  # which this moment has not
            for limit in (1, 2, 5, 9):
                found: list[tuple[bytes, bytes]] = []
                while part := moment.scan(found[-1][0] if found else b"", limit):
                    assert len(part) <= limit
                    found += part
                assert found == pairs
            assert moment.scan(b"a", 0) == []
            assert moment.scan(b"a\x01", 1) == [(b"b", b"3")]  # from a key that is not there
            assert moment.scan(b"\xff" * 10, 9) == []

    def test_a_later_put_wins(self, store: OnlineStore) -> None:
        store.commit([(b"a", b"1"), (b"a", b"2")], 0, Mark(1, 1))
        store.commit([(b"b", b"3")], 1, Mark(2, 2))
        store.commit([(b"b", b"4")], 2, Mark(3, 2))
        with store.snapshot() as moment:
            assert moment.get_many([b"a", b"b"]) == [b"2", b"4"]

    def test_a_commit_may_move_the_mark_alone(self, store: OnlineStore) -> None:
        store.commit([], 0, Mark(7, 70))
        with store.snapshot() as moment:
            assert moment.mark() == Mark(7, 70)

    def test_another_engine_is_fenced_off(self, store: OnlineStore) -> None:
        store.commit([(b"a", b"1")], 0, Mark(5, 50))
        with pytest.raises(Fenced):
            store.commit([(b"a", b"2")], 0, Mark(6, 60))
        with store.snapshot() as moment:
            assert moment.get_many([b"a"]) == [b"1"]
            assert moment.mark() == Mark(5, 50)

    def test_a_version_lasts_until_a_change(self, store: OnlineStore) -> None:
        changes: list[Callable[[], object]] = [
            lambda: store.commit([(b"a", b"1")], 0, Mark(1, 1)),
            lambda: store.commit([], 1, Mark(2, 2)),
            lambda: store.discard(b"a", 1),
            store.clear,
            lambda: store.commit([(b"a", b"1")], 0, Mark(1, 1)),
            store.erase,
            lambda: store.commit([(b"a", b"1")], 0, Mark(1, 1)),
        ]
        seen = []
        for change in (lambda: None, *changes):
            change()
            with store.snapshot() as moment, store.snapshot() as other:
                assert moment.version() == other.version()
                seen.append(moment.version())
        assert len(set(seen)) == len(seen)

    def test_a_snapshot_holds_still(self, store: OnlineStore) -> None:
        store.commit([(b"a", b"1")], 0, Mark(1, 1))
        with store.snapshot() as moment:
            store.commit([(b"a", b"2"), (b"b", b"2")], 1, Mark(2, 2))
            assert moment.mark() == Mark(1, 1)
            assert moment.get_many([b"a", b"b"]) == [b"1", None]
        with store.snapshot() as moment:
            assert moment.mark() == Mark(2, 2)
            assert moment.get_many([b"a", b"b"]) == [b"2", b"2"]

    @pytest.mark.parametrize("key", [b"", b"k" * (KEY_LIMIT + 1)])
    def test_an_impossible_key_stores_nothing(self, store: OnlineStore, key: bytes) -> None:
        with pytest.raises(InputError):
            store.commit([(b"a", b"1"), (key, b"2")], 0, Mark(1, 1))
        with store.snapshot() as moment:
            assert moment.mark() == Mark(0, 0)
            assert moment.get_many([b"a"]) == [None]

    def test_the_longest_key(self, store: OnlineStore) -> None:
        store.commit([(b"k" * KEY_LIMIT, b"1")], 0, Mark(1, 1))
        with store.snapshot() as moment:
            assert moment.get_many([b"k" * KEY_LIMIT]) == [b"1"]

    def test_a_failure_among_the_puts_stores_nothing(self, store: OnlineStore) -> None:
        def puts() -> Iterator[tuple[bytes, bytes]]:
            for number in range(10_000):
                yield b"%d" % number, b"1"
            raise ArithmeticError

        with pytest.raises(ArithmeticError):
            store.commit(puts(), 0, Mark(1, 1))
        with store.snapshot() as moment:
            assert moment.mark() == Mark(0, 0)
            assert moment.get_many([b"0", b"9999"]) == [None, None]

    def test_clear_forgets_everything(self, store: OnlineStore) -> None:
        store.commit([(b"a", b"1")], 0, Mark(5, 50))
        store.clear()
        store.clear()
        with store.snapshot() as moment:
            assert moment.mark() == Mark(0, 0)
            assert moment.get_many([b"a"]) == [None]
        store.commit([(b"a", b"2")], 0, Mark(1, 1))

    def test_erase_forgets_everything(self, store: OnlineStore) -> None:
        store.commit([(b"a", b"1")], 0, Mark(5, 50))
        store.erase()
        store.erase()
        with store.snapshot() as moment:
            assert moment.mark() == Mark(0, 0)
            assert moment.get_many([b"a"]) == [None]
        store.commit([(b"a", b"2")], 0, Mark(1, 1))

    def test_everything_is_there_after_reopening(self, tmp_path: Path) -> None:
        if not self.reopens:
            pytest.skip("this store does not outlive its object")
        store = self.open(tmp_path / "store")
        store.commit([(b"a", b"1")], 0, Mark(5, -50))
        store.close()
        store = self.open(tmp_path / "store")
        try:
            with store.snapshot() as moment:
                assert moment.get_many([b"a"]) == [b"1"]
                assert moment.mark() == Mark(5, -50)
        finally:
            store.close()

    @settings(max_examples=30, deadline=None, suppress_health_check=_SHARED)
    @given(commits=_commits)
    def test_it_holds_what_a_dictionary_holds(
        self, commits: list[list[tuple[bytes, bytes]]]
    ) -> None:
        model: dict[bytes, bytes] = {}
        with tempfile.TemporaryDirectory() as folder:
            store = self.open(Path(folder) / "store")
            try:
                for number, puts in enumerate(commits):
                    store.commit(puts, number, Mark(number + 1, number))
                    model.update(puts)
                keys = [*model, b"none"]
                with store.snapshot() as moment:
                    assert moment.get_many(keys) == [model.get(key) for key in keys]
                    assert moment.scan(b"", len(model) + 1) == sorted(model.items())
            finally:
                store.close()
