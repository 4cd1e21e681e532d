"""Reads the folder of a text encoder as Hugging Face lays it out; nothing in it is run.

Looked at are ``config.json``, ``tokenizer.json``, what sentence-transformers writes beside them
(``modules.json``, the pooling's ``config.json``, ``sentence_bert_config.json``), and the network:
``model.onnx``, or the weights of a network of the BERT family in ``model.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from feilun.errors import InputError, ModelError
from feilun.models.encoder import (
    MAX_NETWORK,
    MAX_TOKENIZER,
    NETWORKS,
    TOKENIZER,
    describe_file,
)
from feilun.ports.encoder import Bert, EncoderParts, EncoderSpec, Format

MAX_TOKENS = 512
"""How many tokens are read where the folder does not say."""
_MAX_SETTINGS = 1 << 20

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
_FAMILY = {"bert": 0, "roberta": 2, "xlm-roberta": 2}
"""The networks whose weights are run, with the position of a text's first token."""


def read_folder(folder: Path) -> EncoderParts:
    """Return the encoder in a folder.

    Raises
    ------
    InputError
        If there is no such folder, or a file of it is absent.
    ModelError
        If it needs code of its own, is of a kind that is not run, or a file is too large.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.", "Name the folder of config.json.")
    config = _settings(folder / "config.json")
    _refuse_code(folder, config)
    dim = _number(config, "hidden_size", folder)
    pooling, normalise = _pooling(folder, dim)
    path = _network(folder)
    bert = None if path.suffix == ".onnx" else _bert(config, folder)
    format: Format = "onnx-encoder/1" if bert is None else "bert-safetensors/1"
    network = _read(path, MAX_NETWORK)
    tokenizer = _read(folder / TOKENIZER, MAX_TOKENIZER)
    spec = EncoderSpec(
        format=format,
        dim=dim,
        max_tokens=_max_tokens(folder, config),
        pooling=pooling,
        normalise=normalise,
        network=describe_file(NETWORKS[format], network),
        tokenizer=describe_file(TOKENIZER, tokenizer),
        bert=bert,
    )
    return EncoderParts(spec, network, tokenizer)


def _network(folder: Path) -> Path:
    for name in ("model.onnx", "onnx/model.onnx", "model.safetensors"):
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{folder} has neither model.onnx nor model.safetensors.", _WAY)


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


def _bert(config: Mapping[str, Any], folder: Path) -> Bert:
    kind = config.get("model_type")
    activation = _ACTIVATIONS.get(str(config.get("hidden_act")))
    absolute = config.get("position_embedding_type", "absolute") == "absolute"
    if kind not in _FAMILY or activation is None or not absolute:
        raise ModelError(
            f"The weights in {folder} are of a network ({kind}, {config.get('hidden_act')}) that "
            "is not run.",
            _WAY,
        )
    return Bert(
        layers=_number(config, "num_hidden_layers", folder),
        heads=_number(config, "num_attention_heads", folder),
        hidden=_number(config, "hidden_size", folder),
        activation=activation,
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        first_position=_FAMILY[str(kind)],
    )


def _number(config: Mapping[str, Any], name: str, folder: Path) -> int:
    found = config.get(name)
    if type(found) is not int or found < 1:
        raise ModelError(f"{folder / 'config.json'} does not say {name}.", _WAY)
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
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}.",
            "An encoder's folder holds config.json, tokenizer.json, and model.onnx or "
            "model.safetensors.",
        ) from error
    if len(data) > cap:
        raise ModelError(f"{path} has more than {cap} bytes.", "Take a smaller encoder.")
    return data
