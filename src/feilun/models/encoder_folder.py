"""Reads the folder of an encoder or a classifier of texts; nothing in it is run.

It is as Hugging Face lays it out. Looked at are ``config.json``, ``tokenizer.json``, what
sentence-transformers writes beside them (``modules.json``, the pooling's ``config.json``,
``sentence_bert_config.json``), and the network: ``model.onnx``, or the weights of a network of the
BERT family in ``model.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from feilun.errors import InputError, ModelError
from feilun.models.encoder import (
    MAX_NETWORK,
    MAX_TOKENIZER,
    NETWORKS,
    TOKENIZER,
    describe_file,
)
from feilun.ports.encoder import Bert, Classifier, EncoderParts, EncoderSpec, Format

MAX_TOKENS = 512
"""How many tokens are read where the folder does not say."""
_MAX_SETTINGS = 1 << 20

MAX_CLASSES = 4096
"""The most classes of a classifier."""
MAX_CLASS = 200
"""The most UTF-8 bytes of a class's name: it is a key, as those of entities."""

_WAY = "Convert it: optimum-cli export onnx --task feature-extraction --model FOLDER FOLDER_ONNX"
_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Settings of folders whose network is a program that comes with them."""
_MODULES = ("Transformer", "Pooling", "Normalize")
"""What sentence-transformers may put one after the other."""
_POOLING: Mapping[str, Literal["cls", "mean"]] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
}
_ACTIVATIONS: Mapping[str, Literal["gelu", "gelu_new", "relu"]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "relu": "relu",
}
_FAMILY = {"bert": 0, "roberta": 2, "xlm-roberta": 2, "distilbert": 0}
"""The networks whose weights are run, with the position of a text's first token."""
_DISTILBERT = {
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "hidden_act": "activation",
}
"""What DistilBERT calls the settings of BERT."""
_CLASSIFIES = "ForSequenceClassification"
_HEADS: Mapping[str, Literal["bert", "roberta", "distilbert"]] = {
    "Bert": "bert",
    "Roberta": "roberta",
    "XLMRoberta": "roberta",
    "DistilBert": "distilbert",
}
"""The classifiers whose weights are run, by how their class is called, with their heads."""
_CLASSIFIER_WAY = (
    "Convert it: optimum-cli export onnx --task text-classification --model FOLDER FOLDER_ONNX"
)


def read_folder(folder: Path) -> EncoderParts:
    """Return the encoder in a folder.

    Raises
    ------
    InputError
        If there is no such folder, or a file of it is absent.
    ModelError
        If it needs code of its own, is of a kind that is not run, or a file is too large.
    """
    config = _config(folder)
    dim = _number(config, "hidden_size", folder, _WAY)
    pooling, normalise = _pooling(folder, dim)
    path = _network(folder, _WAY)
    return _parts(
        folder,
        path,
        dim=dim,
        max_tokens=_max_tokens(folder, config),
        pooling=pooling,
        normalise=normalise,
        bert=None if path.suffix == ".onnx" else _bert(config, folder, _WAY),
    )


def read_classifier(folder: Path) -> EncoderParts:
    """Return the text classifier in a folder, as an encoder whose vectors are its classes.

    Raises
    ------
    InputError
        If there is no such folder, or a file of it is absent.
    ModelError
        If it is no classifier, needs code of its own, is of a kind that is not run, or a file is
        too large.
    """
    config = _config(folder)
    kinds = config.get("architectures")
    kind = str(kinds[0]) if isinstance(kinds, list) and len(kinds) == 1 else str(kinds)
    if not kind.endswith(_CLASSIFIES):
        raise ModelError(
            f"{folder} is no text classifier: its config.json says architectures {kind}.",
            "A classifier's end with ForSequenceClassification. A text encoder, whose vectors "
            "models read, is added: feilun encoder add FOLDER",
        )
    path = _network(folder, _CLASSIFIER_WAY)
    graph = path.suffix == ".onnx"
    head = _HEADS.get(kind.removesuffix(_CLASSIFIES))
    if not graph and head is None:
        raise ModelError(f"The weights of a {kind} are not run.", _CLASSIFIER_WAY)
    classes = _classes(config, folder)
    output = _output(config, len(classes))
    classifier = Classifier("graph" if graph or head is None else head, classes, output)
    limit = _settings(folder / "tokenizer_config.json", optional=True).get("model_max_length")
    most = _max_tokens(folder, config)
    return _parts(
        folder,
        path,
        dim=len(classes),
        max_tokens=min(most, limit) if type(limit) is int and limit > 2 else most,
        pooling="cls",
        bert=None if graph else _bert(config, folder, _CLASSIFIER_WAY),
        classifier=classifier,
    )


def _config(folder: Path) -> dict[str, Any]:
    """Return what ``config.json`` says, in the words of BERT."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.", "Name the folder of config.json.")
    config = _settings(folder / "config.json")
    _refuse_code(folder, config)
    if config.get("model_type") == "distilbert":
        said = {name: config[own] for name, own in _DISTILBERT.items() if own in config}
        config = config | said | {"layer_norm_eps": 1e-12}
    return config


def _classes(config: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """Return what a classifier tells apart, in order; numbered where ``config.json`` is silent."""
    named = config.get("id2label")
    if named is None:
        count = config.get("num_labels", 2)
        named = {str(at): f"LABEL_{at}" for at in range(count if type(count) is int else 0)}
    found = list(named.values()) if isinstance(named, dict) else []
    sound = 0 < len(found) <= MAX_CLASSES and all(map(_is_class, found))
    in_order = sound and {str(at) for at in range(len(found))} == set(named)
    if not in_order or len(set(found)) < len(found):
        raise ModelError(
            f"{folder / 'config.json'} does not name each class once in id2label, from 0 on, in at "
            f"most {MAX_CLASS} bytes of UTF-8, and at most {MAX_CLASSES} of them.",
            'Write "id2label": {"0": "refund", "1": "delivery"} as it was trained.',
        )
    return tuple(named[str(at)] for at in range(len(found)))


def _is_class(name: object) -> bool:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        return False
    try:
        return len(name.encode()) <= MAX_CLASS
    except UnicodeEncodeError:  # half of a character
        return False


def _output(config: Mapping[str, Any], classes: int) -> Literal["softmax", "sigmoid", "number"]:
    """Return what the last numbers go through: as the problem is, or as the folder says."""
    said, problem = config.get("function_to_apply"), config.get("problem_type")
    if said == "softmax":
        return "softmax"
    if said == "sigmoid":
        return "sigmoid"
    if said == "none" or problem == "regression":
        return "number"
    if problem == "multi_label_classification":
        return "sigmoid"
    return "number" if classes == 1 else "softmax"


def _parts(
    folder: Path,
    path: Path,
    *,
    dim: int,
    max_tokens: int,
    pooling: Literal["cls", "mean"],
    normalise: bool = False,
    bert: Bert | None,
    classifier: Classifier | msgspec.UnsetType = msgspec.UNSET,
) -> EncoderParts:
    """Return what is loaded; ``path`` is the network."""
    format: Format = "onnx-encoder/1" if bert is None else "bert-safetensors/1"
    network = _read(path, MAX_NETWORK)
    tokenizer = _read(folder / TOKENIZER, MAX_TOKENIZER)
    spec = EncoderSpec(
        format=format,
        dim=dim,
        max_tokens=max_tokens,
        pooling=pooling,
        normalise=normalise,
        network=describe_file(NETWORKS[format], network),
        tokenizer=describe_file(TOKENIZER, tokenizer),
        bert=bert,
        classifier=classifier,
    )
    return EncoderParts(spec, network, tokenizer)


def _network(folder: Path, way: str) -> Path:
    for name in ("model.onnx", "onnx/model.onnx", "model.safetensors"):
        if (folder / name).is_file():
            return folder / name
    said = f"{folder} has neither model.onnx nor model.safetensors."
    if (folder / "model.safetensors.index.json").is_file():
        raise ModelError(
            f"The weights in {folder} are in parts.",
            "Write one file where it was trained: model.save_pretrained(FOLDER, "
            'max_shard_size="10GB")',
        )
    if (folder / "pytorch_model.bin").is_file():
        raise ModelError(
            f"{said} Its pytorch_model.bin is a pickle, which runs code when it is loaded.",
            "Write its weights as data where it was trained: model.save_pretrained(FOLDER)",
        )
    raise ModelError(said, way)


def _refuse_code(folder: Path, config: Mapping[str, Any]) -> None:
    tokenizer = _settings(folder / "tokenizer_config.json", optional=True)
    for name in _CODE:
        if name in config or name in tokenizer:
            raise ModelError(
                f"The encoder in {folder} is a program that comes with it ({name}): it is not run.",
                "Where you trust it, write its network alone: optimum-cli export onnx "
                "--trust-remote-code --model FOLDER FOLDER_ONNX; then take the setting out of the "
                "new folder's config.json and tokenizer_config.json.",
            )


def _pooling(folder: Path, dim: int) -> tuple[Literal["cls", "mean"], bool]:
    """Return how token vectors become one, and whether that is scaled: as it says, or the mean."""
    modules = _settings(folder / "modules.json", optional=True)
    kinds = [str(each.get("type", "")).rpartition(".")[2] for each in modules.get("", [])]
    unknown = [kind for kind in kinds if kind not in _MODULES]
    if unknown:
        raise ModelError(
            f"The encoder in {folder} goes through {', '.join(unknown)}, which is not run.",
            "Take an encoder of a transformer, pooling and normalising alone.",
        )
    found: list[Literal["cls", "mean"]] = ["mean"]
    path = folder / "1_Pooling" / "config.json"
    if path.is_file():
        settings = _settings(path)
        modes = {name: on for name, on in settings.items() if name.startswith("pooling_mode_")}
        chosen = [name for name, on in modes.items() if on is True]
        found = [_POOLING[name] for name in chosen if name in _POOLING]
        if len(chosen) != 1 or not found:
            raise ModelError(
                f"{path} pools by {', '.join(chosen) or 'nothing'}.",
                "Take an encoder that pools by pooling_mode_cls_token or pooling_mode_mean_tokens.",
            )
        if settings.get("word_embedding_dimension", dim) != dim:
            raise ModelError(f"{path} is of another size than config.json says ({dim}).")
    return found[0], "Normalize" in kinds


def _max_tokens(folder: Path, config: Mapping[str, Any]) -> int:
    """Return how many tokens may be read: as sentence-transformers says, within the positions."""
    own = _settings(folder / "sentence_bert_config.json", optional=True).get("max_seq_length")
    first = _FAMILY.get(str(config.get("model_type")), 0)
    positions = config.get("max_position_embeddings", MAX_TOKENS + first)
    found = [each for each in (own, positions - first) if type(each) is int and each > 2]
    return min(found, default=MAX_TOKENS)


def _bert(config: Mapping[str, Any], folder: Path, way: str) -> Bert:
    kind = config.get("model_type")
    activation = _ACTIVATIONS.get(str(config.get("hidden_act")))
    absolute = config.get("position_embedding_type", "absolute") == "absolute"
    if kind not in _FAMILY or activation is None or not absolute:
        raise ModelError(
            f"The weights in {folder} are of a network ({kind}, {config.get('hidden_act')}) that "
            "is not run.",
            way,
        )
    return Bert(
        layers=_number(config, "num_hidden_layers", folder, way),
        heads=_number(config, "num_attention_heads", folder, way),
        hidden=_number(config, "hidden_size", folder, way),
        activation=activation,
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        first_position=_FAMILY[str(kind)],
    )


def _number(config: Mapping[str, Any], name: str, folder: Path, way: str) -> int:
    found = config.get(name)
    if type(found) is not int or found < 1:
        raise ModelError(f"{folder / 'config.json'} does not say {name}.", way)
    return found


def _settings(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """Return a JSON file's object; a list as its entry ``""``; nothing where it may be absent."""
    if optional and not path.exists():
        return {}
    try:
        found = json.loads(_read(path, _MAX_SETTINGS))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}.") from error
    if isinstance(found, list) and all(isinstance(each, dict) for each in found):
        return {"": found}
    if not isinstance(found, dict):
        raise ModelError(f"{path} is no JSON object.")
    return found


def _read(path: Path, cap: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except OSError as error:
        way = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}.",
            "The folder holds config.json, tokenizer.json, and model.onnx or model.safetensors. "
            f"A tokenizer of another form is written anew with {way}.",
        ) from error
    if len(data) > cap:
        raise ModelError(f"{path} has more than {cap} bytes.", "Take a smaller encoder.")
    return data
