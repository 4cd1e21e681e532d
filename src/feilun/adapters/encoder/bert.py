"""The forward pass of networks of the BERT family, in NumPy, from safetensors weights.

Sources: Devlin et al., BERT, https://arxiv.org/abs/1810.04805; Vaswani et al., Attention Is All You
Need, https://arxiv.org/abs/1706.03762; GELU, https://arxiv.org/abs/1606.08415; Sanh et al.,
DistilBERT, https://arxiv.org/abs/1910.01108. The names of the weights are those of the published
ones; DistilBERT's are read as BERT's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from feilun.adapters.encoder.safetensors import read_safetensors
from feilun.errors import ModelError
from feilun.ports.encoder import Bert, Classifier

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_WORDS = "embeddings.word_embeddings.weight"
_UNSEEN = np.float32(-1e9)
"""What is added to the attention that a token pays to what only fills up."""
_TYPES = "embeddings.token_type_embeddings.weight"
_DISTILLED = re.compile(r"transformer\.layer\.(\d+)\.(\w+(?:\.\w+)?)\.(weight|bias)")
"""How DistilBERT calls the weights of its layers."""
_RENAMED = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
_HEADS: Mapping[str, tuple[str, Literal["tanh", "relu"], str]] = {
    "bert": ("pooler.dense", "tanh", "classifier"),
    "roberta": ("classifier.dense", "tanh", "classifier.out_proj"),
    "distilbert": ("pre_classifier", "relu", "classifier"),
}
"""What the first token's vector goes through: a layer, what bends it, and the layer of classes."""


class BertNetwork:
    """A network of the BERT family.

    Parameters
    ----------
    data : bytes
        Its weights, as safetensors.
    bert : Bert
        Its shape.
    classifier : Classifier, optional
        What it tells apart; its vectors are of tokens otherwise.

    Raises
    ------
    ModelError
        If the weights are damaged, or not those of such a network.
    """

    def __init__(self, data: bytes, bert: Bert, classifier: Classifier | None = None) -> None:
        weights = read_safetensors(data)
        prefix = next((name[: -len(_WORDS)] for name in weights if name.endswith(_WORDS)), None)
        if prefix is None or bert.hidden % bert.heads:
            raise ModelError("The weights are not those of a network of the BERT family.")
        self._bert = bert
        self._activate = _ACTIVATIONS[bert.activation]
        self._head = None if classifier is None else _HEADS.get(classifier.head)
        if classifier is not None and self._head is None:
            raise ModelError("Nothing says how the weights tell classes apart.", "Adopt it again.")
        heads = () if self._head is None else (f"{self._head[0]}.", f"{self._head[2]}.")
        self._weights = {
            _name(name.removeprefix(prefix)): value
            for name, value in weights.items()
            if name.startswith((prefix, *heads))
        }
        if not any(name.startswith("embeddings.token_type") for name in self._weights):
            self._weights[_TYPES] = np.zeros((1, bert.hidden), np.float32)  # DistilBERT has none
        self._check(0 if classifier is None else len(classifier.classes))

    @property
    def words(self) -> int:
        """How many different tokens it knows."""
        return len(self._weights[_WORDS])

    def _check(self, classes: int) -> None:
        """Refuse weights that are absent, of other shapes than the rest, or no numbers."""
        hidden = self._bert.hidden
        wanted = [
            f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")
        ]
        shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(wanted, (None, hidden))
        shapes |= _norm("embeddings.LayerNorm", hidden)
        for layer in range(self._bert.layers):
            inner = self._weights.get(f"{_layer(layer)}.intermediate.dense.bias", np.empty(0))
            shapes |= _layer_shapes(_layer(layer), hidden, len(inner))
        if self._head is not None:
            before, _, last = self._head
            shapes |= {f"{before}.weight": (hidden, hidden), f"{before}.bias": (hidden,)}
            shapes |= {f"{last}.weight": (classes, hidden), f"{last}.bias": (classes,)}
        for name, shape in shapes.items():
            found = self._weights.get(name)
            if found is None:
                raise ModelError(f"The weights lack {name}.", "Take the folder as it is published.")
            if found.ndim != len(shape) or any(
                want not in (None, have) for want, have in zip(shape, found.shape, strict=True)
            ):
                raise ModelError(f"{name} has the shape {found.shape}, and should have {shape}.")
            if not np.isfinite(found).all():
                raise ModelError(
                    f"{name} has a number that is not finite.",
                    "Its training failed, or the file was damaged: take another copy of it.",
                )

    def run(self, ids: Int64, mask: Int64) -> Float32:
        """Return a vector for each token; of a classifier, a number for each class of a text."""
        weights = self._weights
        first = self._bert.first_position
        positions = weights["embeddings.position_embeddings.weight"][first : first + ids.shape[1]]
        words = weights["embeddings.word_embeddings.weight"]
        if len(positions) < ids.shape[1] or ids.max() >= len(words):
            raise ModelError("A text has more tokens, or others, than the network knows.")
        found = words[ids] + positions + weights["embeddings.token_type_embeddings.weight"][0]
        found = self._normed("embeddings.LayerNorm", found)
        unseen = (1 - mask[:, None, None, :]).astype(np.float32) * _UNSEEN
        for layer in range(self._bert.layers):
            found = self._layer(_layer(layer), found, unseen)
        return found if self._head is None else self._classes(self._head, found[:, 0])

    def _classes(self, head: tuple[str, str, str], x: Float32) -> Float32:
        before, bend, last = head
        inner = self._dense(before, x)
        return self._dense(last, _relu(inner) if bend == "relu" else np.tanh(inner))

    def _layer(self, name: str, x: Float32, unseen: Float32) -> Float32:
        texts, tokens, hidden = x.shape
        heads = self._bert.heads

        def each_head(part: str) -> Float32:
            found = self._dense(f"{name}.attention.self.{part}", x)
            return found.reshape(texts, tokens, heads, -1).transpose(0, 2, 1, 3)

        query, key, value = (each_head(part) for part in ("query", "key", "value"))
        scale = np.float32(1.0 / np.sqrt(hidden // heads))
        attention = query @ key.transpose(0, 1, 3, 2) * scale + unseen
        attention = np.exp(attention - attention.max(axis=-1, keepdims=True))
        attention /= attention.sum(axis=-1, keepdims=True)
        seen = (attention @ value).transpose(0, 2, 1, 3).reshape(texts, tokens, hidden)
        x = self._normed(
            f"{name}.attention.output.LayerNorm",
            x + self._dense(f"{name}.attention.output.dense", seen),
        )
        inner = self._activate(self._dense(f"{name}.intermediate.dense", x))
        outer = self._dense(f"{name}.output.dense", inner)
        return self._normed(f"{name}.output.LayerNorm", x + outer)

    def _dense(self, name: str, x: Float32) -> Float32:
        flat = x.reshape(-1, x.shape[-1])  # one product of all texts is quicker than one of each
        found: Float32 = flat @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return found.reshape(*x.shape[:-1], -1)

    def _normed(self, name: str, x: Float32) -> Float32:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = (centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._bert.epsilon)
        found: Float32 = centred / np.sqrt(spread) * self._weights[f"{name}.weight"]
        return found + self._weights[f"{name}.bias"]


def _name(name: str) -> str:
    """Return what BERT calls a weight that may be DistilBERT's."""
    found = _DISTILLED.fullmatch(name)
    if found is None or found[2] not in _RENAMED:
        return name
    return f"{_layer(int(found[1]))}.{_RENAMED[found[2]]}.{found[3]}"


def _layer(number: int) -> str:
    return f"encoder.layer.{number}"


def _norm(name: str, size: int) -> dict[str, tuple[int | None, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _layer_shapes(name: str, hidden: int, inner: int) -> dict[str, tuple[int | None, ...]]:
    dense = {f"attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
    dense["attention.output.dense"] = (hidden, hidden)
    dense["intermediate.dense"] = (inner, hidden)
    dense["output.dense"] = (hidden, inner)
    shapes: dict[str, tuple[int | None, ...]] = {}
    for part, (out, into) in dense.items():
        shapes |= {f"{name}.{part}.weight": (out, into), f"{name}.{part}.bias": (out,)}
    for part in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes |= _norm(f"{name}.{part}", hidden)
    return shapes


def _gelu(x: Float32) -> Float32:
    found: Float32 = x * np.float32(0.5) * (np.float32(1.0) + _erf(x * np.float32(0.5**0.5)))
    return found


def _gelu_new(x: Float32) -> Float32:
    inner = np.float32((2.0 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x)
    bent: Float32 = np.tanh(inner).astype(np.float32, copy=False)
    found: Float32 = np.float32(0.5) * x * (np.float32(1.0) + bent)
    return found


def _relu(x: Float32) -> Float32:
    found: Float32 = np.maximum(x, np.float32(0.0))
    return found


def _erf(x: Float32) -> Float32:
    """Return the error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26)."""
    size = np.abs(x)
    t = np.float32(1.0) / (np.float32(1.0) + np.float32(0.3275911) * size)
    sum_: Float32 = np.full_like(t, 1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        sum_ = sum_ * t + np.float32(factor)
    found: Float32 = np.copysign(np.float32(1.0) - sum_ * t * np.exp(-size * size), x)
    return found


_ACTIVATIONS: Mapping[str, Callable[[Float32], Float32]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_new,
    "relu": _relu,
}
