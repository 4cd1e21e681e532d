"""Encoders and classifiers for tests: folders of tiny networks with random weights, and hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from feilun.errors import FeilunError

Weights = Mapping[str, npt.NDArray[np.float32]]

HIDDEN, HEADS, LAYERS, INNER, POSITIONS = 16, 4, 2, 32, 32
_FRAME = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_WORDS = (*_FRAME, *_LETTERS, *(f"##{each}" for each in _LETTERS), *"飞轮退款地址商品在哪里")


class HashEncoders:
    """Encoders whose vectors are made of a hash of the text; see `feilun.ports.encoder.Encoders`.

    Parameters
    ----------
    dim : int
        How many numbers a vector has.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.calls: list[tuple[str, list[str]]] = []
        self.error: FeilunError | None = None
        """What each call raises, if anything."""
        self.before: Callable[[], object] = lambda: None
        """What is done before a call answers, such as waiting."""

    def encode(self, digest: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a row for each text. A call without any only asks whether it is loaded."""
        if texts:
            self.calls.append((digest, list(texts)))
            self.before()
        if self.error is not None:
            raise self.error
        rows = [self.vector(digest, text) for text in texts]
        return np.array(rows, np.float32).reshape(-1, self.dim)

    def close(self) -> None:
        """Do nothing."""

    def vector(self, digest: str, text: str) -> npt.NDArray[np.float32]:
        """Return the vector of a text."""
        seed = hashlib.blake2b(f"{digest} {text}".encode(), digest_size=8).digest()
        random = np.random.default_rng(int.from_bytes(seed, "big"))
        return random.normal(size=self.dim).astype(np.float32)


def bert_weights(seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Return random weights of a tiny BERT, named as published ones are."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings": (len(_WORDS), HIDDEN),
        "embeddings.position_embeddings": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings": (2, HIDDEN),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{name}.attention.{part}"] = (HIDDEN, HIDDEN)
        shapes[f"{name}.intermediate.dense"] = (INNER, HIDDEN)
        shapes[f"{name}.output.dense"] = (HIDDEN, INNER)
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    found = {f"{name}.weight": random.normal(0, 0.4, shape) for name, shape in shapes.items()}
    dense = [name for name in shapes if not name.startswith("embeddings")]
    found |= {f"{name}.bias": random.normal(0, 0.2, shapes[name][0]) for name in dense}
    for name in norms:
        found[f"{name}.weight"] = random.normal(1, 0.2, HIDDEN)
        found[f"{name}.bias"] = random.normal(0, 0.2, HIDDEN)
    return {name: value.astype(np.float32) for name, value in found.items()}


def write_safetensors(weights: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return arrays of floats as the bytes of a safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place, parts = 0, []
    for name, value in weights.items():
        data = np.ascontiguousarray(value).tobytes()
        kind = f"F{8 * value.itemsize}"
        offsets = [place, place + len(data)]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": offsets}
        place += len(data)
        parts.append(data)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def tokenizer_json() -> str:
    """Return a tokenizer of letters and a few words, as ``tokenizer.json``."""
    frame = [{"id": at, "content": word, "special": True} for at, word in enumerate(_FRAME)]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    kept = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    ended = {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": 1}}
    special = {
        word: {"id": word, "ids": [_FRAME.index(word)], "tokens": [word]}
        for word in ("[CLS]", "[SEP]")
    }
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [each | plain for each in frame],
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [kept, text, ended],
                "pair": [kept, text, ended, other, ended],
                "special_tokens": special,
            },
            "decoder": None,
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {word: at for at, word in enumerate(_WORDS)},
            },
        },
        ensure_ascii=False,
    )


def write_encoder_folder(
    folder: Path,
    *,
    seed: int = 0,
    graph: bool = False,
    pooling: str = "mean",
    normalise: bool = True,
    **config: Any,
) -> Path:
    """Write the folder of a tiny encoder, as Hugging Face and sentence-transformers lay it out.

    Parameters
    ----------
    folder : Path
        Made, and returned.
    seed : int
        Of its weights.
    graph : bool
        Whether its network is an ONNX graph; else it is safetensors weights.
    pooling, normalise : str, bool
        ``mean`` or ``cls``, and whether its vectors have length 1.
    **config
        What ``config.json`` says else or otherwise.
    """
    (folder / "1_Pooling").mkdir(parents=True)
    said = {
        "model_type": "bert",
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": INNER,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
    }
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    modules = [
        {"idx": at, "name": str(at), "path": "", "type": f"sentence_transformers.models.{kind}"}
        for at, kind in enumerate(kinds)
    ]
    modes = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    settings = {"word_embedding_dimension": HIDDEN}
    settings |= {name: mode == pooling for name, mode in modes.items()}
    for name, found in (
        ("config.json", said | config),
        ("modules.json", modules),
        ("1_Pooling/config.json", settings),
    ):
        (folder / name).write_text(json.dumps(found), "utf-8")
    (folder / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    weights = bert_weights(seed)
    if graph:
        (folder / "model.onnx").write_bytes(bert_graph(weights))
    else:
        (folder / "model.safetensors").write_bytes(write_safetensors(weights))
    return folder


CLASSIFIERS = ("Bert", "Roberta", "XLMRoberta", "DistilBert")
"""The classifiers whose weights are run, as their classes are called."""
CLASSES = ("退款", "物流", "地址", "hours")


def classifier_weights(seed: int = 0, classes: int = len(CLASSES)) -> dict[str, Any]:
    """Return random weights of a tiny BERT with what tells classes apart, named as BERT's are."""
    random = np.random.default_rng(seed + 1)
    found: dict[str, Any] = bert_weights(seed)
    for name, rows in (("pooler.dense", HIDDEN), ("classifier", classes)):
        found[f"{name}.weight"] = random.normal(0, 0.6, (rows, HIDDEN)).astype(np.float32)
        found[f"{name}.bias"] = random.normal(0, 0.3, rows).astype(np.float32)
    return found


def write_classifier_folder(
    folder: Path,
    kind: str = "Bert",
    *,
    classes: Sequence[str] = CLASSES,
    seed: int = 0,
    graph: bool = False,
    **config: Any,
) -> Path:
    """Write the folder of a tiny classifier, as transformers lays it out; its weights are BERT's.

    Parameters
    ----------
    folder : Path
        Made, and returned.
    kind : str
        One of ``CLASSIFIERS``.
    classes : sequence of str
        What it tells apart.
    seed : int
        Of its weights.
    graph : bool
        Whether its network is an ONNX graph; else it is safetensors weights.
    **config
        What ``config.json`` says else or otherwise.
    """
    folder.mkdir(parents=True)
    distilled, first = kind == "DistilBert", 2 if "Roberta" in kind else 0
    own = ("dim", "n_heads", "n_layers", "hidden_dim", "activation")
    general = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
    names = own if distilled else (*general, "hidden_act")
    said: dict[str, Any] = {
        "architectures": [f"{kind}ForSequenceClassification"],
        "model_type": {"XLMRoberta": "xlm-roberta"}.get(kind, kind.lower()),
        **dict(zip(names, (HIDDEN, HEADS, LAYERS, INNER, "gelu"), strict=True)),
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS + first,
        "id2label": {str(at): name for at, name in enumerate(classes)},
    }
    (folder / "config.json").write_text(json.dumps(said | config, ensure_ascii=False), "utf-8")
    (folder / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    weights = classifier_weights(seed, len(classes))
    if graph:
        (folder / "model.onnx").write_bytes(bert_graph(weights, kind))
        return folder
    places = weights["embeddings.position_embeddings.weight"]
    before = np.full((first, HIDDEN), 9.0, np.float32)  # of what only fills up
    weights["embeddings.position_embeddings.weight"] = np.concatenate([before, places])
    renamed = {_published(name, kind): value for name, value in weights.items()}
    renamed.pop("", None)
    (folder / "model.safetensors").write_bytes(write_safetensors(renamed))
    return folder


_DISTILLED = {
    "encoder.layer.": "transformer.layer.",
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def _published(name: str, kind: str) -> str:
    """Return what a kind of classifier calls a weight of BERT's; nothing where it has none."""
    if kind == "DistilBert":
        if "token_type" in name:
            return ""
        name = name.replace("pooler.dense", "pre_classifier")
        for bert, own in _DISTILLED.items():
            name = name.replace(bert, own)
    elif "Roberta" in kind:
        name = name.replace("classifier.", "classifier.out_proj.")
        name = name.replace("pooler.dense", "classifier.dense")
    body = {"Bert": "bert", "DistilBert": "distilbert"}.get(kind, "roberta")
    return f"{body}.{name}" if not name.startswith(("classifier", "pre_")) else name


def bert_graph(weights: Weights, classifier: str = "") -> bytes:
    """Return a BERT of these weights as an ONNX graph, built operator by operator.

    It tells classes apart as a ``classifier`` of that kind does, if there is one.
    """
    from onnx import TensorProto, checker, helper

    made = _Graph()
    words = made.add("Gather", made.constant(weights["embeddings.word_embeddings.weight"]),
                     "input_ids")  # fmt: skip
    types = weights["embeddings.token_type_embeddings.weight"]
    if classifier == "DistilBert":  # it has none
        types = np.zeros_like(types)
    kinds = made.add("Gather", made.constant(types), "token_type_ids")
    length = made.add("Slice", made.add("Shape", "input_ids"), made.numbers(1), made.numbers(2))
    positions = made.add(
        "Slice", made.constant(weights["embeddings.position_embeddings.weight"]),
        made.numbers(0), length, made.numbers(0),
    )  # fmt: skip
    x = made.norm(weights, "embeddings.LayerNorm",
                  made.add("Add", made.add("Add", words, kinds), positions))  # fmt: skip
    seen = made.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    unseen = made.add("Mul", made.add("Sub", made.scalar(1.0), seen), made.scalar(-1e9))
    unseen = made.add("Unsqueeze", unseen, made.numbers(1, 2))
    for layer in range(LAYERS):
        x = made.layer(weights, f"encoder.layer.{layer}", x, unseen)
    shape: list[Any] = ["texts", "tokens", HIDDEN]
    if classifier:
        first = made.add("Gather", x, made.numbers(0), axis=1)
        first = made.add("Squeeze", first, made.numbers(1))
        inner = made.dense(weights, "pooler.dense", first)
        bent = made.add("Relu" if classifier == "DistilBert" else "Tanh", inner)
        x = made.dense(weights, "classifier", bent)
        shape = ["texts", len(weights["classifier.bias"])]
    name = "logits" if classifier else "last_hidden_state"
    made.add("Identity", x, output=name)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(made.nodes, "bert", inputs, [output], made.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


class _Graph:
    """Nodes and constants of an ONNX graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def norm(self, weights: Weights, name: str, x: str) -> str:
        scale, bias = (self.constant(weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-12)

    def dense(self, weights: Weights, name: str, x: str) -> str:
        product = self.add("MatMul", x, self.constant(weights[f"{name}.weight"].T))
        return self.add("Add", product, self.constant(weights[f"{name}.bias"]))

    def heads(self, weights: Weights, name: str, x: str) -> str:
        split = self.add("Reshape", self.dense(weights, name, x), self.numbers(0, 0, HEADS, -1))
        return self.add("Transpose", split, perm=[0, 2, 1, 3])

    def layer(self, weights: Weights, name: str, x: str, unseen: str) -> str:
        query, key, value = (
            self.heads(weights, f"{name}.attention.self.{part}", x)
            for part in ("query", "key", "value")
        )
        product = self.add("MatMul", query, self.add("Transpose", key, perm=[0, 1, 3, 2]))
        scaled = self.add("Mul", product, self.scalar(1 / np.sqrt(HIDDEN // HEADS)))
        attention = self.add("Softmax", self.add("Add", scaled, unseen), axis=-1)
        mixed = self.add("Transpose", self.add("MatMul", attention, value), perm=[0, 2, 1, 3])
        mixed = self.add("Reshape", mixed, self.numbers(0, 0, HIDDEN))
        mixed = self.dense(weights, f"{name}.attention.output.dense", mixed)
        x = self.norm(weights, f"{name}.attention.output.LayerNorm", self.add("Add", x, mixed))
        inner = self.dense(weights, f"{name}.intermediate.dense", x)
        bent = self.add("Erf", self.add("Mul", inner, self.scalar(np.sqrt(0.5))))
        bent = self.add("Mul", self.add("Add", bent, self.scalar(1.0)), self.scalar(0.5))
        outer = self.dense(weights, f"{name}.output.dense", self.add("Mul", inner, bent))
        return self.norm(weights, f"{name}.output.LayerNorm", self.add("Add", x, outer))
