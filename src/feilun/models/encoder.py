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

import errno
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from feilun.errors import ConfigError, CorruptData, ModelError, StoreFull
from feilun.models.bundle import write_folder
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

_DESCRIPTION = "encoder.json"
_MAX_DESCRIPTION = 1 << 16
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def describe_file(name: str, data: bytes) -> EncoderFile:
    """Describe the bytes of one of an encoder's files."""
    return EncoderFile(name, hashlib.sha256(data).hexdigest(), len(data))


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
    text = msgspec.json.format(msgspec.json.encode(spec, order="deterministic"), indent=1)
    digest = hashlib.sha256(text).hexdigest()
    target = root / digest
    if target.is_dir():
        read_encoder(root, digest)
        return digest
    files = {spec.network.file: parts.network, spec.tokenizer.file: parts.tokenizer}
    try:
        write_folder(root, target, files | {_DESCRIPTION: text})
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(f"No space for an encoder under {root}.", "Free some disk.") from error
        raise ConfigError(
            f"Cannot write an encoder under {root}: {error.strerror}.",
            "Check the folder's owner and permissions.",
        ) from error
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
    if not _DIGEST.fullmatch(digest):
        raise ModelError(f"{digest[:80]!r} is not an encoder's digest.", "It is 64 hex digits.")
    path = root / digest / _DESCRIPTION
    text = _read(path, _MAX_DESCRIPTION)
    _verify(path, text, digest)
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
    found = []
    for file, cap in ((spec.network, MAX_NETWORK), (spec.tokenizer, MAX_TOKENIZER)):
        path = root / digest / file.file
        data = _read(path, min(file.bytes, cap))
        _verify(path, data, file.sha256)
        found.append(data)
    return EncoderParts(spec, *found)


def stored_encoders(root: Path) -> dict[str, EncoderSpec]:
    """Return every encoder that was added, by digest; raises as `read_spec` does."""
    names = sorted(path.name for path in root.glob("*") if _DIGEST.fullmatch(path.name))
    return {digest: read_spec(root, digest) for digest in names}


def _read(path: Path, cap: int) -> bytes:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise ModelError(f"{path} is no file.", "Restore the folder from a backup.")
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except FileNotFoundError as error:
        raise ModelError(
            f"The encoder {path.parent.name[:12]} is not here ({path}).",
            "Add its folder: feilun encoder add FOLDER",
        ) from error
    except OSError as error:
        raise ModelError(
            f"The encoder's {path.name} cannot be read: {error.strerror} ({path}).",
            "Restore the folder from a backup, or add the encoder again.",
        ) from error
    if len(data) > cap:
        raise _corrupt(path)
    return data


def _verify(path: Path, data: bytes, digest: str) -> None:
    if hashlib.sha256(data).hexdigest() != digest:
        raise _corrupt(path)


def _corrupt(path: Path) -> CorruptData:
    return CorruptData(
        f"{path} is not what was written: its digest differs.",
        "Delete its folder, and add the encoder again.",
    )
