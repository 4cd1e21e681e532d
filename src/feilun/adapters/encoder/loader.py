"""Puts an encoder together: its tokenizer, its network, and what makes one vector of many."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from feilun.adapters.encoder.bert import BertNetwork
from feilun.adapters.encoder.graph import GraphNetwork
from feilun.adapters.encoder.tokens import Tokenizer
from feilun.errors import ModelError
from feilun.ports.encoder import Classifier, EncoderParts, EncoderSpec

BATCH_TOKENS = 8_192
"""The most tokens of one run of the network, filled up ones included."""

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class Network(Protocol):
    """What computes vectors of tokens."""

    def run(self, ids: Int64, mask: Int64) -> Float32:
        """Return a vector for each token, or one for each text: of a classifier, its classes.

        Parameters
        ----------
        ids : int64 array, texts by tokens
            The tokens, filled up at the end.
        mask : int64 array, texts by tokens
            1 for a token, 0 for what only fills up.
        """
        ...


class NetworkEncoder:
    """An encoder; see `feilun.ports.encoder.Encoder`."""

    def __init__(self, spec: EncoderSpec, tokenizer: Tokenizer, network: Network) -> None:
        self._spec = spec
        self._tokenizer = tokenizer
        self._network = network
        found = spec.classifier
        self._classifier = None if isinstance(found, msgspec.UnsetType) else found

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return a row for each text. Texts of like length are run together."""
        tokens = self._tokenizer.tokens(texts)
        vectors = np.empty((len(texts), self._spec.dim), np.float32)
        order = sorted(range(len(texts)), key=lambda place: len(tokens[place]))
        while order:
            longest = len(tokens[order[-1]])
            count = max(1, BATCH_TOKENS // longest)
            # All are filled up to the longest: a short one among long ones would cost as much.
            first = bisect_left(order, longest / 2, key=lambda place: len(tokens[place]))
            start = max(first, len(order) - count)
            part, order = order[start:], order[:start]
            ids = np.full((len(part), longest), self._tokenizer.filler, np.int64)
            mask = np.zeros((len(part), longest), np.int64)
            for row, place in enumerate(part):
                length = len(tokens[place])
                ids[row, :length], mask[row, :length] = tokens[place], 1
            # Numbers beyond float32 are told of where they come out.
            with np.errstate(over="ignore", invalid="ignore"):
                vectors[part] = self._pooled(self._network.run(ids, mask), mask)
        return vectors

    def _pooled(self, found: Float32, mask: Int64) -> Float32:
        if found.ndim == 3 and found.shape[:2] == mask.shape:
            if self._spec.pooling == "cls":
                found = found[:, 0]
            else:
                weights = mask[:, :, None].astype(np.float32)
                found = (found * weights).sum(axis=1) / weights.sum(axis=1)
        if found.shape != (len(mask), self._spec.dim):
            raise ModelError(
                f"The encoder gave numbers of shape {found.shape} for {len(mask)} texts, not of "
                f"{self._spec.dim} each.",
                "Export it for this task: optimum-cli export onnx --task, feature-extraction for "
                "an encoder, text-classification for a classifier.",
            )
        if self._classifier is not None:
            found = _probabilities(found, self._classifier)
        if self._spec.normalise:
            lengths = np.sqrt((found * found).sum(axis=1, keepdims=True))
            found = found / np.maximum(lengths, np.float32(1e-12))
        if not np.isfinite(found).all():
            raise ModelError("The encoder gave a number that is not finite.")
        return found.astype(np.float32, copy=False)


def _probabilities(found: Float32, classifier: Classifier) -> Float32:
    if classifier.output == "number":
        return found
    if classifier.output == "sigmoid":
        small = np.exp(-np.abs(found))  # of numbers of either sign, none overflows
        each = np.where(found < 0, small, 1.0) / (1.0 + small)
        return each.astype(np.float32)
    raised = np.exp(found - found.max(axis=1, keepdims=True))
    together: Float32 = raised / raised.sum(axis=1, keepdims=True)
    return together


def load_encoder(parts: EncoderParts) -> NetworkEncoder:
    """Load an encoder, and see that it encodes.

    Raises
    ------
    ModelError
        If the parts do not make one.
    MissingExtra
        If a library that it needs is not installed.
    """
    spec = parts.spec
    tokenizer = Tokenizer(parts.tokenizer, spec.max_tokens)
    classifier = None if isinstance(spec.classifier, msgspec.UnsetType) else spec.classifier
    network: Network
    if spec.format == "onnx-encoder/1":
        network = GraphNetwork(parts.network, classifies=classifier is not None)
    elif spec.bert is None:
        raise ModelError("Nothing says what the encoder's weights are of.", "Add its folder again.")
    else:
        network = BertNetwork(parts.network, spec.bert, classifier)
        if classifier is not None and tokenizer.words > network.words:
            raise ModelError(
                f"tokenizer.json has {tokenizer.words} tokens, and the network knows "
                f"{network.words}.",
                "Take both files from the same folder.",
            )
    encoder = NetworkEncoder(spec, tokenizer, network)
    encoder.encode(["", "飞轮 flywheel " * spec.max_tokens])
    return encoder
