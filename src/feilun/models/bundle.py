"""The bundle: a trained model as the gateway runs it, checked before a byte of it is parsed.

A bundle is a folder named by its digest, and is never changed::

    bundles/<digest>/bundle.json     what the model is: columns, categories, metric, training
    bundles/<digest>/model.txt       the model, in a format on the allowlist

``digest`` is the SHA-256 of the bytes of ``bundle.json``, which holds the SHA-256 and the size
of the model's file: whoever knows the digest can tell every flipped bit. No path comes out of
``bundle.json``; the file's name follows from its format.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from feilun.definitions.specs import (
    ClassSpec,
    DType,
    EncodingSpec,
    ExpressionSpec,
    FeatureSpec,
    FoldSpec,
    ModelSpec,
    Operator,
    Project,
    Readable,
    RequestSpec,
    digest,
    longest,
)
from feilun.errors import ModelError
from feilun.features.earlier import decode_class, encode_class, obstacle, today
from feilun.models.digest_folder import DigestFolder

FORMAT_VERSION = 3

FORMATS = {
    "lightgbm-text/1": "model.txt",
    "xgboost/1": "model.xgb",
    "onnx/1": "model.onnx",
    "torch-export/1": "model.pt2",
    "torchscript/1": "model.pt",
    "saved-model/1": "saved_model.zip",
    "http-endpoint/1": "endpoint.json",
    "text-classifier/1": "classifier.json",
}
"""The formats that may be loaded, with the name of their file in a bundle. None can hold code."""

MAX_DESCRIPTION = 16 << 20
"""The most bytes ``bundle.json`` may have; category dictionaries are in it."""
MAX_MODEL = 512 << 20
"""The most bytes the model's file may have."""

_REMEDY = "Restore the folder from a backup, or train the model again."
_FOLDER = DigestFolder(
    "a bundle", "bundle.json", MAX_DESCRIPTION, if_missing=_REMEDY, if_damaged=_REMEDY
)


class FeatureColumn(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="feature"
):
    """A column that holds a feature, by address and by meaning.

    ``fingerprint`` is the hex of ``FoldSpec.fingerprint``; ``window`` (µs), ``calendar``,
    ``dtype``, ``default``, ``ttl`` (µs), ``quantile`` and ``dim`` (of a vector) are those of the
    feature. ``categories`` gives the code of each known string by its place; None where the column
    holds numbers.
    """

    address: str
    fingerprint: str
    window: int | None
    calendar: int
    dtype: DType
    default: int | float | str | bool | None
    ttl: int | None
    categories: tuple[str, ...] | None = None
    quantile: float = 0.5
    dim: int = 0

    @property
    def width(self) -> int:
        """How many columns of the matrix it is."""
        return self.dim or 1


class RequestColumn(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="request"
):
    """A column that the request itself says, see ``RequestSpec``."""

    name: str
    dtype: DType
    timezone: str
    categories: tuple[str, ...] | None = None

    @property
    def address(self) -> str:
        """``request:name``."""
        return f"request:{self.name}"

    @property
    def width(self) -> int:
        """How many columns of the matrix it is."""
        return 1


class EncodingColumn(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="encoding"
):
    """A column that is a text's vector, see ``EncodingSpec``."""

    encoder: str
    digest: str
    dim: int
    text: FeatureColumn | RequestColumn

    @property
    def width(self) -> int:
        """How many columns of the matrix it is."""
        return self.dim


class ClassColumn(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="class"
):
    """A column that is what a text classifier gives the class of a row, see ``ClassSpec``."""

    encoding: EncodingColumn
    classes: tuple[str, ...]
    item: str

    @property
    def width(self) -> int:
        """How many columns of the matrix it is."""
        return 1


class ExpressionColumn(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="expression"
):
    """A column that is arithmetic over others and numbers; named if it is a view's."""

    op: Operator
    left: FeatureColumn | RequestColumn | ExpressionColumn | EncodingColumn | float
    right: FeatureColumn | RequestColumn | ExpressionColumn | EncodingColumn | float
    name: str = ""

    @property
    def width(self) -> int:
        """How many columns of the matrix it is."""
        return 1


ColumnSpec = FeatureColumn | RequestColumn | ExpressionColumn | EncodingColumn | ClassColumn


class ScorerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model's file: its format, its name in the folder, its SHA-256 (hex) and its size."""

    format: str
    file: str
    sha256: str
    bytes: int


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the gateway must know of a model.

    Attributes
    ----------
    model : str
        The model's name in the project.
    columns : tuple of ColumnSpec
        The matrix's columns, in order; see :func:`columns_of`.
    item : str
        The key that differs between the rows of one request.
    scorer : ScorerFile
        The file to load; see :func:`scorer_file`.
    metric : str
        What it was judged by.
    trained : dict
        Where it came from: log offsets, digests, run id, as the trainer likes. JSON values only.
        ``adopted`` in it says that somebody else trained it, and what was known of it.
    definition_digest : str
        ``ModelSpec.definition_digest`` at training.
    folds : tuple of FoldSpec
        What its features are made of, whole: it reads them still when the project has changed. See
        :func:`folds_of`. Bundles before format 3 have none.
    format_version : int
        Version of this description.
    """

    model: str
    columns: tuple[ColumnSpec, ...]
    item: str
    scorer: ScorerFile
    metric: str
    trained: dict[str, Any]
    definition_digest: str
    folds: tuple[FoldSpec, ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The known values of each text column, by its address; a value's code is its place."""
        return {
            column.address: column.categories or ()
            for column in self.columns
            if isinstance(column, FeatureColumn | RequestColumn) and column.dtype == "str"
        }

    def logged_columns(self, columns_digest: str) -> str:
        """Return what its logged vectors are called: two of one name may be trained on together.

        Codes of texts come from the log, and are the same in every version trained here. A version
        that was adopted has codes of its own.

        Parameters
        ----------
        columns_digest : str
            ``ModelSpec.columns_digest`` of its columns.
        """
        categories = self.categories
        own_codes = "adopted" in self.trained and categories
        return digest(columns_digest, categories) if own_codes else columns_digest


def columns_of(model: ModelSpec, categories: Mapping[str, Sequence[str]]) -> tuple[ColumnSpec, ...]:
    """Describe the columns of a model.

    Parameters
    ----------
    model : ModelSpec
        Whose columns.
    categories : mapping
        By address, the known values of each text column; a value's code is its place.
    """
    return tuple(_column(column, categories) for column in model.columns)


def folds_of(model: ModelSpec) -> tuple[FoldSpec, ...]:
    """Return what the features of a model are made of, each once."""
    return longest(feature.fold for feature in model.features)


def resolve_columns(
    columns: Sequence[ColumnSpec], project: Project, folds: Sequence[FoldSpec] = ()
) -> tuple[Readable, ...]:
    """Return a bundle's columns as a project reads them.

    They mean what they meant at training. Where the project has changed since, ``folds``, the
    bundle's own, say what a feature is made of.

    Raises
    ------
    ModelError
        If a feature cannot be read any more.
    """
    resolver = _Resolver(project, folds)
    return tuple(resolver.resolve(column) for column in columns)


def _column(column: Readable, categories: Mapping[str, Sequence[str]]) -> ColumnSpec:
    if isinstance(column, ExpressionSpec):
        left, right = (
            side if isinstance(side, float) else _column(side, {})
            for side in (column.left, column.right)
        )
        assert not isinstance(left, ClassColumn)
        assert not isinstance(right, ClassColumn)
        return ExpressionColumn(column.op, left, right, column.address if column.name else "")
    if isinstance(column, EncodingSpec):
        text = _column(column.text, {})
        assert isinstance(text, FeatureColumn | RequestColumn)
        return EncodingColumn(column.encoder, column.digest, column.dim, text)
    if isinstance(column, ClassSpec):
        encoding = _column(column.encoding, {})
        assert isinstance(encoding, EncodingColumn)
        return ClassColumn(encoding, column.classes, column.item)
    known = categories.get(column.address)
    codes = None if known is None else tuple(known)
    if isinstance(column, RequestSpec):
        return RequestColumn(column.name, column.dtype, column.timezone, codes)
    return FeatureColumn(
        address=column.address,
        fingerprint=column.fold.fingerprint.hex(),
        window=column.window,
        calendar=column.calendar,
        dtype=column.dtype,
        default=column.default,
        ttl=column.ttl,
        categories=codes,
        quantile=column.quantile,
        dim=column.fold.dim,
    )


class _Resolver:
    """Finds columns of a bundle in a project, or in what the bundle says of them."""

    def __init__(self, project: Project, folds: Sequence[FoldSpec]) -> None:
        self._project = project
        self._folds = {fold.fingerprint.hex(): fold for fold in (today(f, project) for f in folds)}

    def resolve(self, column: ColumnSpec) -> Readable:
        if isinstance(column, RequestColumn):
            return RequestSpec(column.name, column.dtype, column.timezone)
        if isinstance(column, ExpressionColumn):
            return self._expression(column)
        if isinstance(column, EncodingColumn):
            return self._encoding(column)
        if isinstance(column, ClassColumn):
            return ClassSpec(self._encoding(column.encoding), column.classes, column.item)
        own = self._own(column.address)
        if own is not None and not own.is_list and _bare(column) == _column(own, {}):
            return own
        fold = self._folds.get(column.fingerprint)
        if fold is None:
            raise self._unknown(column.address, known=own is not None)
        if lack := obstacle(fold, self._project):
            raise ModelError(
                f"The model was trained on a {column.address} that cannot be read now: {lack}.",
                "Put it back, or train the model again.",
            )
        view, _, name = column.address.partition(":")
        return FeatureSpec(
            view=view,
            name=name,
            fold=dataclasses.replace(fold, retention=column.window),
            window=column.window,
            calendar=column.calendar,
            dtype=column.dtype,
            is_list=False,
            n=1,
            default=column.default,
            ttl=column.ttl,
            quantile=column.quantile,
        )

    def _expression(self, column: ExpressionColumn) -> Readable:
        own = self._own(column.name) if column.name else None
        if own is not None and column == _column(own, {}):
            return own
        left, right = (
            side if isinstance(side, float) else self.resolve(side)
            for side in (column.left, column.right)
        )
        view, _, name = column.name.partition(":")
        return ExpressionSpec(column.op, left, right, view, name)

    def _encoding(self, column: EncodingColumn) -> EncodingSpec:
        text = self.resolve(column.text)
        assert isinstance(text, FeatureSpec | RequestSpec)
        return EncodingSpec(column.encoder, column.digest, column.dim, text)

    def _own(self, address: str) -> FeatureSpec | ExpressionSpec | None:
        try:
            return self._project.feature(address)
        except KeyError:
            return None

    @staticmethod
    def _unknown(address: str, *, known: bool) -> ModelError:
        if known:
            return ModelError(
                f"The model was trained on another meaning of {address}.",
                "Give the new meaning a new name, or train the model again.",
            )
        return ModelError(
            f"The model reads {address}, which the project does not define.",
            "Put the feature back, or train the model again.",
        )


def _bare(column: ColumnSpec) -> ColumnSpec:
    """Return a column without dictionaries, which are the bundle's own; numbers alone have none."""
    if isinstance(column, ExpressionColumn | EncodingColumn | ClassColumn):
        return column
    return msgspec.structs.replace(column, categories=None)


def scorer_file(data: bytes, format: str = "lightgbm-text/1") -> ScorerFile:
    r"""Describe a model's bytes.

    Raises
    ------
    ModelError
        If the format is not on the allowlist.

    Examples
    --------
    >>> scorer_file(b"tree\n").bytes
    5
    """
    return ScorerFile(format, _file_of(format), hashlib.sha256(data).hexdigest(), len(data))


def write_bundle(root: Path, bundle: Bundle, data: bytes) -> str:
    """Store a bundle under ``root`` and return its digest.

    Either the whole bundle is there, durably, or nothing is. Idempotent: the same bundle has the
    same digest and is stored once.

    Raises
    ------
    ModelError
        If the format is not allowed, ``bundle.scorer`` does not describe ``data``, or either part
        is above its cap.
    CorruptData
        If a damaged bundle stands under the same digest.
    StoreFull, ConfigError
        If the folder cannot take it.
    """
    if bundle.scorer != scorer_file(data, bundle.scorer.format):
        raise ModelError(
            f"The bundle of {bundle.model!r} does not describe the model's bytes.",
            "Make its scorer with feilun.models.bundle.scorer_file(data).",
        )
    text = _encoded(bundle)
    _within("The bundle's description", len(text), MAX_DESCRIPTION)
    _within("The model's file", len(data), MAX_MODEL)
    digest = hashlib.sha256(text).hexdigest()
    if (root / digest).is_dir():
        read_bundle(root, digest)
    else:
        files = {bundle.scorer.file: data, _FOLDER.description: text}
        _FOLDER.write(root, digest, files)
    return digest


def read_bundle(root: Path, digest: str) -> tuple[Bundle, bytes]:
    """Return a bundle and its model's bytes, every byte of both checked against ``digest``.

    Raises
    ------
    ModelError
        If ``digest`` is not 64 hex digits, there is no such bundle, it is of a newer Feilun, or its
        format is not allowed.
    CorruptData
        If any byte differs from what was written.
    """
    bundle = read_description(root, digest)
    file = _file_of(bundle.scorer.format)
    if bundle.scorer.file != file:
        raise ModelError(f"Bundle {digest[:12]} names another file than {file}.", "Train again.")
    cap = min(bundle.scorer.bytes, MAX_MODEL)
    return bundle, _FOLDER.read(root / digest / file, bundle.scorer.sha256, cap)


def read_description(root: Path, digest: str) -> Bundle:
    """Return what a bundle says of its model, checked against ``digest``; the model is not read.

    Raises
    ------
    ModelError, CorruptData
        As :func:`read_bundle` does.
    """
    text = _FOLDER.read_description(root, digest)
    try:
        bundle = msgspec.json.decode(text, type=Bundle, dec_hook=decode_class)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(
            f"The description of bundle {digest[:12]} cannot be used: {error}.",
            "It was written by another version of Feilun; train the model again.",
        ) from error
    if bundle.format_version > FORMAT_VERSION:
        raise ModelError(
            f"Bundle {digest[:12]} has format {bundle.format_version}; this Feilun reads up to "
            f"{FORMAT_VERSION}.",
            "Upgrade Feilun.",
        )
    return bundle


def _encoded(bundle: Bundle) -> bytes:
    raw = msgspec.json.encode(bundle, order="deterministic", enc_hook=encode_class)
    return msgspec.json.format(raw, indent=1)


def _file_of(format: str) -> str:
    try:
        return FORMATS[format]
    except KeyError:
        raise ModelError(
            f"Models in format {format[:80]!r} are not loaded.",
            f"Convert it to one of: {', '.join(FORMATS)}.",
        ) from None


def _within(what: str, size: int, cap: int) -> None:
    if size > cap:
        raise ModelError(
            f"{what} has {size} bytes; at most {cap} are kept.", "Train a smaller one."
        )
