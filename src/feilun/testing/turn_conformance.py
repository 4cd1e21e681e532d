"""The exam of a `TurnStore`: subclass `TurnStoreExam`, say how to make one, and run pytest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from feilun.errors import Conflict, Fenced, UnknownName
from feilun.ports.turn_store import Step, TurnStore


class TurnStoreExam(ABC):
    """What every turn store must do."""

    @abstractmethod
    def make(self, folder: Path) -> TurnStore:
        """Return an empty store that may keep its files in ``folder``."""

    @pytest.fixture
    def turns(self, tmp_path: Path) -> TurnStore:
        """Give each test a store of its own."""
        return self.make(tmp_path)

    def test_opening_a_turn_twice_gives_the_same_turn(self, turns: TurnStore) -> None:
        """A turn is known by (model, cut), whoever asks and why."""
        first = turns.open("ranker", "1000 outcomes", 50, now=1)
        assert (first.model, first.cut, first.state, first.ended) == ("ranker", 50, "running", None)
        assert turns.open("ranker", "by hand", 50, now=2) == first
        assert turns.open("ranker", "1000 outcomes", 51, now=2).id != first.id
        assert turns.open("demand", "1000 outcomes", 50, now=2).id != first.id

    def test_turns_come_oldest_first(self, turns: TurnStore) -> None:
        """All of them, or those of one model."""
        opened = [turns.open(model, "t", cut, now=cut) for model, cut in _TURNS]
        assert turns.turns() == opened
        assert turns.turns("a") == [turn for turn in opened if turn.model == "a"]
        assert turns.turns("nobody") == []
        assert turns.get(opened[1].id) == opened[1]
        assert turns.get(10_000) is None

    def test_a_lease_keeps_others_out_until_it_ends(self, turns: TurnStore) -> None:
        """The interval is half-open: at its end the turn is free."""
        turn = turns.open("ranker", "t", 50, now=0).id
        first = turns.claim(turn, "one", now=0, lease=10)
        with pytest.raises(Fenced):
            turns.claim(turn, "two", now=9, lease=10)
        second = turns.claim(turn, "two", now=10, lease=10)
        assert second > first

    def test_the_owner_may_claim_again(self, turns: TurnStore) -> None:
        """A controller that restarts under its own name need not wait."""
        turn = turns.open("ranker", "t", 50, now=0).id
        assert turns.claim(turn, "one", now=0, lease=10) < turns.claim(turn, "one", now=1, lease=10)

    def test_an_overtaken_owner_can_write_nothing(self, turns: TurnStore) -> None:
        """Its steps and its end are refused; the new owner's are kept."""
        turn = turns.open("ranker", "t", 50, now=0).id
        old = turns.claim(turn, "one", now=0, lease=10)
        new = turns.claim(turn, "two", now=20, lease=10)
        with pytest.raises(Fenced):
            turns.save_step(turn, Step("collect", "a", {}, 0.0), old)
        with pytest.raises(Fenced):
            turns.finish(turn, "promoted", 21, old)
        assert turns.steps(turn) == []
        turns.save_step(turn, Step("collect", "a", {"rows": 1}, 0.5), new)
        turns.finish(turn, "rejected", 21, new)
        ended = turns.get(turn)
        assert ended is not None
        assert (ended.state, ended.ended) == ("rejected", 21)

    def test_a_step_is_kept_once_for_one_input(self, turns: TurnStore) -> None:
        """The first output stands; another input replaces it, in its place."""
        turn = turns.open("ranker", "t", 50, now=0).id
        fence = turns.claim(turn, "one", now=0, lease=10)
        output = {"rows": 3, "auc": 0.5, "none": None, "list": [1, "二"], "deep": {"x": True}}
        turns.save_step(turn, Step("collect", "a", output, 0.25), fence)
        turns.save_step(turn, Step("train", "b", {}, 1.0), fence)
        turns.save_step(turn, Step("collect", "a", {"rows": 4}, 9.0), fence)
        assert turns.steps(turn) == [
            Step("collect", "a", output, 0.25),
            Step("train", "b", {}, 1.0),
        ]
        turns.save_step(turn, Step("collect", "c", {"rows": 5}, 9.0), fence)
        assert [(s.name, s.input_digest) for s in turns.steps(turn)] == [
            ("collect", "c"),
            ("train", "b"),
        ]

    def test_an_end_is_final(self, turns: TurnStore) -> None:
        """Saying it again changes nothing; saying otherwise is refused."""
        turn = turns.open("ranker", "t", 50, now=0).id
        fence = turns.claim(turn, "one", now=0, lease=10)
        turns.finish(turn, "promoted", 5, fence)
        turns.finish(turn, "promoted", 9, fence)
        with pytest.raises(Conflict):
            turns.finish(turn, "failed", 9, fence)
        ended = turns.get(turn)
        assert ended is not None
        assert (ended.state, ended.ended) == ("promoted", 5)

    def test_unknown_turns(self, turns: TurnStore) -> None:
        """There is nothing to claim, and nothing was done."""
        with pytest.raises(UnknownName):
            turns.claim(7, "one", now=0, lease=10)
        assert turns.steps(7) == []

    def test_examined_only_moves_on(self, turns: TurnStore) -> None:
        """A slower controller cannot take it back."""
        assert turns.examined("ranker") == 0
        turns.note_examined("ranker", 70)
        turns.note_examined("ranker", 60)
        assert turns.examined("ranker") == 70
        assert turns.examined("demand") == 0


_TURNS = (("a", 30), ("b", 20), ("a", 10))
