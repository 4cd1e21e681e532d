"""From texts to tokens, by the tokenizer that an encoder brings. Nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feilun.errors import MissingExtra, ModelError


class Tokenizer:
    """Cuts texts into tokens; at most so many of each are kept.

    Raises
    ------
    ModelError
        If ``tokenizer.json`` cannot be used.
    MissingExtra
        If the library is not installed.
    """

    def __init__(self, data: bytes, max_tokens: int) -> None:
        try:
            import tokenizers
        except ModuleNotFoundError as error:
            raise MissingExtra("tokenizers", "encoders") from error
        try:
            loaded: Any = tokenizers.Tokenizer.from_buffer(data)
            # The file may say something else of either; filling up is done by whoever runs them.
            filler = (loaded.padding or {}).get("pad_id", 0)
            loaded.no_padding()
            loaded.enable_truncation(max_tokens)
        except Exception as error:  # the library raises plain Exceptions
            raise ModelError(
                f"tokenizer.json cannot be used: {str(error)[:500]}",
                "Write it again: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
            ) from error
        self.filler = int(filler)
        """The token that fills up; networks are told to look away."""
        self.words = max(loaded.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        """One more than the largest token that there is."""
        self._tokenizer = loaded

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, at least one.

        Raises
        ------
        ModelError
            If a text cannot be cut into any.
        """
        try:
            found = [each.ids for each in self._tokenizer.encode_batch(list(texts))]
        except Exception as error:  # the library raises plain Exceptions
            raise ModelError(f"A text cannot be cut into tokens: {str(error)[:500]}") from error
        # Without tokens that frame a text, an empty one has none: it is what fills up.
        return [ids or [self.filler] for ids in found]
