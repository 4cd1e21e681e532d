"""The encoders of a project: checked before a byte of them is parsed.

An encoder is a folder named by its digest, and is never changed::

    encoders/<digest>/encoder.json       what it is, see ``EncoderSpec``
    encoders/<digest>/model.onnx         its network, or its weights in model.safetensors
    encoders/<digest>/tokenizer.json     how texts become tokens

``digest`` is the SHA-256 of the bytes of ``encoder.json``, which holds those of the other two:
whoever knows the digest can tell every flipped bit. No path comes out of ``encoder.json``; the
files' names follow from the format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from feilun.errors import ModelError
from feilun.models.digest_folder import DigestFolder, is_digest
from feilun.ports.encoder import EncoderFile, EncoderParts, EncoderSpec, Format

FORMAT_VERSION = 1

NETWORKS: Mapping[Format, str] = {
    "onnx-encoder/1": "model.onnx",
    "bert-safetensors/1": "model.safetensors",
}
"""The formats that may be loaded, with the name of the network's file. None can hold code."""
TOKENIZER = "tokenizer.json"
MAX_NETWORK = 2 << 30
"""The most bytes a network may have: an ONNX file cannot have more."""
MAX_TOKENIZER = 64 << 20
"""The most bytes ``tokenizer.json`` may have."""

_FOLDER = DigestFolder(
    "an encoder",
    "encoder.json",
    1 << 22,
    if_missing="Add its folder: feilun encoder add FOLDER",
    if_damaged="Delete its folder, and add the encoder again.",
)


def describe_file(name: str, data: bytes) -> EncoderFile:
    """Describe the bytes of one of an encoder's files."""
    return EncoderFile(name, hashlib.sha256(data).hexdigest(), len(data))


def digest_of(spec: EncoderSpec) -> str:
    """Return the digest under which an encoder is kept."""
    return hashlib.sha256(_encoded(spec)).hexdigest()


def write_encoder(root: Path, parts: EncoderParts) -> str:
    """Store an encoder under ``root`` and return its digest. Idempotent; all or nothing.

    Raises
    ------
    CorruptData
        If a damaged one stands under the same digest.
    StoreFull, ConfigError
        If the folder cannot take it.
    """
    spec = parts.spec
    text = _encoded(spec)
    digest = digest_of(spec)
    if (root / digest).is_dir():
        read_encoder(root, digest)
    else:
        files = {spec.network.file: parts.network, spec.tokenizer.file: parts.tokenizer}
        _FOLDER.write(root, digest, files | {_FOLDER.description: text})
    return digest


def read_spec(root: Path, digest: str) -> EncoderSpec:
    """Return what the encoder of a digest is; its files are not looked at.

    Raises
    ------
    ModelError
        If it was not added, or is of a newer Feilun.
    CorruptData
        If its description is not what was written.
    """
    text = _FOLDER.read_description(root, digest)
    try:
        spec = msgspec.json.decode(text, type=EncoderSpec)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(
            f"The description of the encoder {digest[:12]} cannot be used: {error}.",
            "It was written by another version of Feilun: add its folder again.",
        ) from error
    if (spec.network.file, spec.tokenizer.file) != (NETWORKS[spec.format], TOKENIZER):
        raise ModelError(f"The encoder {digest[:12]} names other files.", "Add its folder again.")
    return spec


def read_encoder(root: Path, digest: str) -> EncoderParts:
    """Return an encoder, every byte of it checked against ``digest``.

    Raises
    ------
    ModelError
        If it was not added, or is of a newer Feilun.
    CorruptData
        If any byte differs from what was written.
    """
    spec = read_spec(root, digest)
    files = ((spec.network, MAX_NETWORK), (spec.tokenizer, MAX_TOKENIZER))
    network, tokenizer = (
        _FOLDER.read(root / digest / file.file, file.sha256, min(file.bytes, cap))
        for file, cap in files
    )
    return EncoderParts(spec, network, tokenizer)


def _encoded(spec: EncoderSpec) -> bytes:
    return msgspec.json.format(msgspec.json.encode(spec, order="deterministic"), indent=1)


def stored_encoders(root: Path) -> dict[str, EncoderSpec]:
    """Return every encoder that was added, by digest; raises as `read_spec` does."""
    names = sorted(path.name for path in root.glob("*") if is_digest(path.name))
    return {digest: read_spec(root, digest) for digest in names}
