"""The exam of a `ScorerLoader`: subclass `ScorerLoaderExam` and say how to make a model."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from feilun.errors import ModelError
from feilun.ports.scorer import Scorer, ScorerLoader

COLUMNS = 4


class Sample(NamedTuple):
    """A model of ``COLUMNS`` columns, and what its own library says of some rows.

    ``close`` is by how much a score may differ, relatively.
    """

    data: bytes
    rows: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float64]
    names: tuple[str, ...] = ()
    close: float = 0.0


class ScorerLoaderExam(ABC):
    """What every loader of models must do."""

    @abstractmethod
    def make(self) -> ScorerLoader:
        """Return a loader."""

    @abstractmethod
    def sample(self) -> Sample:
        """Return a model and what it says; the same at each call."""

    @pytest.fixture
    def loader(self) -> ScorerLoader:
        """Give each test a loader of its own."""
        return self.make()

    @pytest.fixture
    def known(self) -> Sample:
        """Give each test the model."""
        return self.sample()

    @pytest.fixture
    def scorer(self, loader: ScorerLoader, known: Sample) -> Scorer:
        """Give each test the model, loaded."""
        return loader.load(known.data, COLUMNS)

    def test_it_scores_as_its_own_library_does(self, scorer: Scorer, known: Sample) -> None:
        """One float64 a row; missing values and all."""
        found = scorer.score(known.rows)
        assert found.dtype == np.float64
        assert found.shape == (len(known.rows),)
        np.testing.assert_allclose(found, known.scores, rtol=known.close)
        assert len(np.unique(found)) > 1, "a sample that says the same of all rows proves little"

    def test_a_row_has_its_score_alone_and_among_others(
        self, scorer: Scorer, known: Sample
    ) -> None:
        """No row looks at its neighbours, and no batch is too small."""
        together = scorer.score(known.rows)
        alone = [float(scorer.score(row[None].copy())[0]) for row in known.rows[:20]]
        np.testing.assert_allclose(alone, together[:20], rtol=max(known.close, 1e-6))
        assert scorer.score(known.rows[:0].copy()).shape == (0,)

    def test_scores_last_when_others_follow(self, scorer: Scorer, known: Sample) -> None:
        """The library's memory is not handed out."""
        first = scorer.score(known.rows)
        kept = first.copy()
        scorer.score(known.rows[::-1].copy())
        assert first.tolist() == kept.tolist()

    def test_threads_share_a_scorer(self, scorer: Scorer, known: Sample) -> None:
        """Each gets its own answer."""
        expected = scorer.score(known.rows)
        wrong: list[int] = []

        def work(part: npt.NDArray[np.float32], scores: npt.NDArray[np.float64]) -> None:
            wrong.extend(
                1 for _ in range(20) if not np.allclose(scorer.score(part), scores, rtol=1e-6)
            )

        half = len(known.rows) // 2
        parts = [(known.rows[:half], expected[:half]), (known.rows[half:], expected[half:])] * 2
        threads = [threading.Thread(target=work, args=part) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    @pytest.mark.parametrize(
        "matrix",
        [
            np.zeros((3, COLUMNS + 1), np.float32),
            np.zeros((3, COLUMNS), np.float64),
            np.zeros(COLUMNS, np.float32),
            np.zeros((COLUMNS, 3), np.float32).T,
        ],
        ids=["columns", "float64", "vector", "order"],
    )
    def test_a_matrix_that_does_not_fit_is_refused(
        self, scorer: Scorer, matrix: npt.NDArray[np.float32]
    ) -> None:
        """Before any library sees it."""
        with pytest.raises(ModelError):
            scorer.score(matrix)

    def test_another_number_of_columns_is_refused(
        self, loader: ScorerLoader, known: Sample
    ) -> None:
        """Too many and too few."""
        for columns in (COLUMNS - 1, COLUMNS + 1):
            with pytest.raises(ModelError):
                loader.load(known.data, columns)

    def test_what_is_no_model_is_refused(self, loader: ScorerLoader, known: Sample) -> None:
        """Nothing, rubbish, half a model, a pickle."""
        for data in (b"", b"\0" * 99, b"{}", b"\x80\x04K\x01.", known.data[: len(known.data) // 2]):
            with pytest.raises(ModelError):
                loader.load(data, COLUMNS)

    def test_it_names_its_columns(self, loader: ScorerLoader, known: Sample) -> None:
        """Where the file does."""
        assert loader.column_names(known.data) == known.names

    def test_it_says_what_it_loads(self, loader: ScorerLoader) -> None:
        """A name and a version; and whether its scorers may be called where others wait."""
        name, _, version = loader.format.partition("/")
        assert name
        assert version.isdigit()
        assert isinstance(loader.waits, bool)
