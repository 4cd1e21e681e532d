"""Encoders: texts in, a vector for each out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from feilun.errors import Unavailable

Format = Literal["onnx-encoder/1", "bert-safetensors/1"]


class Bert(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of a network of the BERT family, as its ``config.json`` says.

    ``first_position`` is that of a text's first token; ``epsilon`` is that of the layer norms.
    """

    layers: int
    heads: int
    hidden: int
    activation: Literal["gelu", "gelu_new", "relu"]
    epsilon: float
    first_position: int


class Classifier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What tells classes apart at the end of a network.

    Attributes
    ----------
    head : {"bert", "roberta", "distilbert", "graph"}
        Whose layers lie between the first token's vector and the classes; a graph has its own.
    classes : tuple of str
        What it tells apart, in the order of its numbers.
    output : {"softmax", "sigmoid", "number"}
        What its last numbers go through: they become probabilities of one class or another, of each
        class for itself, or stay what they are.
    """

    head: Literal["bert", "roberta", "distilbert", "graph"]
    classes: tuple[str, ...]
    output: Literal["softmax", "sigmoid", "number"]


class EncoderFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of an encoder: its name in the folder, its SHA-256 (hex) and its size in bytes."""

    file: str
    sha256: str
    bytes: int


class EncoderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an encoder is.

    Attributes
    ----------
    format : {"onnx-encoder/1", "bert-safetensors/1"}
        How its network is stored: as a graph, or as weights of a ``bert``.
    dim : int
        How many numbers a vector has.
    max_tokens : int
        How many tokens of a text are read, those that frame it included.
    pooling : {"cls", "mean"}
        How the vectors of a text's tokens become one: the first of them, or their mean; a network
        whose output is called ``sentence_embedding`` has done so itself.
    normalise : bool
        Whether vectors are scaled to length 1.
    network, tokenizer : EncoderFile
        What is loaded.
    bert : Bert or None
        What the weights are of.
    classifier : Classifier, or unset
        What comes instead of pooling: the vector has a number for each class.
    format_version : int
        Version of this description.
    """

    format: Format
    dim: int
    max_tokens: int
    pooling: Literal["cls", "mean"]
    normalise: bool
    network: EncoderFile
    tokenizer: EncoderFile
    bert: Bert | None = None
    format_version: int = 1
    # Unset, and not None: an encoder's digest is that of its description, and stays what it was.
    classifier: Classifier | msgspec.UnsetType = msgspec.UNSET


class EncoderLoading(Unavailable):
    """The encoder was asked for the first time, and is being loaded."""


class EncoderParts(msgspec.Struct, frozen=True):
    """An encoder as it is loaded: what it is, and the bytes of its two files."""

    spec: EncoderSpec
    network: bytes
    tokenizer: bytes


class Encoder(Protocol):
    """A loaded encoder. Never changes; called by one thread at a time."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a row of finite numbers for each text.

        Pure: the same text gives the same vector, up to rounding (1e-5 of its largest number),
        whatever it is encoded together with.

        Raises
        ------
        ModelError
            If the network fails, or gives something else.
        """
        ...


class EncoderLoader(Protocol):
    """Makes an encoder of its parts, whose digests were verified. Runs no code that they bring."""

    def __call__(self, parts: EncoderParts) -> Encoder:
        """Load an encoder; takes seconds.

        Raises
        ------
        ModelError
            If the parts do not make one.
        MissingExtra
            If a library that it needs is not installed.
        """
        ...


class Encoders(Protocol):
    """The encoders of this machine, wherever they run. Thread-safe."""

    def encode(self, digest: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a row for each text by the encoder of that digest.

        Called in a thread by the gateway, for what many requests need together, and by training.
        Idempotent.

        Raises
        ------
        Unavailable
            If it cannot be reached, is being loaded, or does not answer in time.
        ModelError
            If it was not added to the project, or fails.
        """
        ...

    def close(self) -> None:
        """Let go of the way to them. Called at the end; idempotent."""
        ...


class _NoEncoders:
    def encode(self, digest: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:  # noqa: ARG002
        raise Unavailable(f"Nothing here runs the encoder {digest[:12]}.", "Start it: feilun up")

    def close(self) -> None:
        """Do nothing."""


NO_ENCODERS: Encoders = _NoEncoders()
"""What stands for encoders where there are none."""
