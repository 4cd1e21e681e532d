"""The exam of `Encoders`: subclass `EncodersExam` and say how to reach some."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from feilun.errors import FeilunError
from feilun.ports.encoder import Encoders

TEXTS = ["where is my order", "", "退款 refund", "a" * 5_000, "\x00 \U0001f600 ok", "where is my"]


class Reached(NamedTuple):
    """Encoders, and the digest and size of one that is loaded."""

    encoders: Encoders
    digest: str
    dim: int


class EncodersExam(ABC):
    """What every way to encoders must do."""

    @abstractmethod
    def reach(self) -> Iterator[Reached]:
        """Yield encoders, and end what was begun for them."""

    @pytest.fixture
    def reached(self) -> Iterator[Reached]:
        """Give each test its own."""
        yield from self.reach()

    def test_there_is_a_row_of_finite_numbers_for_each_text(self, reached: Reached) -> None:
        """Whatever the text; no text gives no row."""
        found = reached.encoders.encode(reached.digest, TEXTS)
        assert found.dtype == np.float32
        assert found.shape == (len(TEXTS), reached.dim)
        assert np.isfinite(found).all()
        assert len(reached.encoders.encode(reached.digest, [])) == 0

    def test_a_text_has_one_vector_in_any_company(self, reached: Reached) -> None:
        """Up to rounding; and another text has another."""
        together = reached.encoders.encode(reached.digest, [*TEXTS, TEXTS[0]])
        for text, row in zip(TEXTS, together, strict=False):
            (alone,) = reached.encoders.encode(reached.digest, [text])
            np.testing.assert_allclose(alone, row, rtol=0, atol=1e-5 * np.abs(row).max())
        assert (together[0] == together[-1]).all()
        assert not np.allclose(together[0], together[-2], atol=1e-3)

    def test_an_encoder_that_was_not_added_is_an_error(self, reached: Reached) -> None:
        """Also when it is asked for again, and the others go on."""
        for _ in range(2):
            with pytest.raises(FeilunError):
                reached.encoders.encode("0" * 64, ["a"])
        assert len(reached.encoders.encode(reached.digest, ["a"])) == 1

    def test_many_threads_get_their_own_texts_vectors(self, reached: Reached) -> None:
        """Each call gets the rows that it would get alone."""
        texts = [f"text {number}" for number in range(24)]
        whole = reached.encoders.encode(reached.digest, texts)
        found: dict[int, npt.NDArray[np.float32]] = {}

        def ask(at: int) -> None:
            found[at] = reached.encoders.encode(reached.digest, texts[at : at + 3])

        threads = [threading.Thread(target=ask, args=(at,)) for at in range(0, 24, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for at, rows in found.items():
            np.testing.assert_allclose(rows, whole[at : at + 3], rtol=0, atol=1e-5)
        assert len(found) == len(threads)
