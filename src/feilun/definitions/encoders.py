"""Encoders: foundation models that turn a text into a vector, the same one for all who ask."""

from __future__ import annotations

from typing import Any

from feilun.definitions.features import Feature
from feilun.definitions.sites import calling_site


class Encoder:
    """A text encoder. Made by :func:`encoder`; called with a text, it gives that text's vector."""

    def __init__(self, name: str, dim: int, digest: str) -> None:
        self.name = name
        self.dim = dim
        self.digest = digest
        self.site = calling_site()

    def __call__(self, text: Feature[str]) -> Encoding:
        """Encode a text: one of the request's (``fl.request.param``), or a feature."""
        return Encoding(self, text)

    def __repr__(self) -> str:
        return f"fl.encoder({self.name!r})"


class Encoding(Feature[tuple[float, ...]]):
    """The vector of a text, as a feature of models: a column for each of its numbers.

    Missing where the text is, and where the encoder does not answer in time.
    """

    def __init__(self, encoder: Encoder, text: Feature[Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.text = text

    @property
    def address(self) -> str:
        """``encoder(address of the text)``."""
        return f"{self.encoder.name}({self.text.address})"

    def unnamed(self) -> str:
        """Return how it is written in a definition."""
        return f"{self.encoder!r}({self.text!r})"


def encoder(name: str, *, dim: int, digest: str) -> Encoder:
    """Use a text encoder that was added to the project with ``feilun encoder add``.

    It is loaded once on a machine, whatever the number of models, capabilities and gateway
    workers that use it.

    Parameters
    ----------
    name : str
        What it is called here: in addresses, metrics and logs.
    dim : int
        How many numbers its vectors have.
    digest : str
        Its version, as ``feilun encoder add`` prints it: these weights and no others.
    """
    return Encoder(name, dim, digest)
