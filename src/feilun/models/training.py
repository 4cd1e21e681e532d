"""From examples to a bundle, and from a bundle to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from feilun.clock import to_iso
from feilun.definitions.specs import ModelSpec, Readable
from feilun.errors import FeilunError, ModelError
from feilun.models.bundle import (
    Bundle,
    ColumnSpec,
    FeatureColumn,
    RequestColumn,
    columns_of,
    folds_of,
    read_bundle,
    scorer_file,
    write_bundle,
)
from feilun.models.examples import Examples
from feilun.ports.scorer import ScorerLoader

MOST_HELD_OUT, LEAST_HELD_OUT = 0.2, 0.05
"""The part of the requests, the newest, that a challenger is not trained on but judged by."""
ENOUGH_HELD_OUT = 500
"""Requests that make an interval narrow enough; more would only make the challenger stale."""

WAITING_ROWS = 500
"""Rows that a scorer in another process is asked about at once."""


class Converter(Protocol):
    """Turns what a training function returned into bytes that the gateway can load."""

    def __call__(self, estimator: Any) -> bytes:
        """Convert, or raise ModelError with the way to convert it by hand."""
        ...


class Split(NamedTuple):
    """Examples to train on, examples to judge by, and the moment between them (µs UTC)."""

    train: Examples
    holdout: Examples
    start: int


class Trained(NamedTuple):
    """A challenger: its bundle's digest, and the parameters that its estimator names."""

    bundle: str
    params: dict[str, str]


def split(examples: Examples, within: int, new_since: int = 0, not_before: int = 0) -> Split:
    """Part the examples in time.

    The holdout is what is new since the last turn, at most ``ENOUGH_HELD_OUT`` requests and a
    fifth of all, at least a twentieth; for what is held out makes a challenger stale. It holds
    nothing from before ``not_before``, where the champion's own training ended, so that neither
    contestant has seen any of it. A request whose outcome's window reaches into the holdout is in
    neither part: its outcome would tell of events that the holdout is judged by.

    Parameters
    ----------
    examples : Examples
        Ripe requests, oldest first.
    within : int
        The outcome's window, µs.
    new_since : int
        The moment from which on requests are new since the model's last turn, µs UTC.
    not_before : int
        The earliest moment that the holdout may begin at, µs UTC.

    Raises
    ------
    ModelError
        If either part is empty.
    """
    if not len(examples):
        raise ModelError(
            "There is no request with a known outcome.", "Wait until the outcome's within= is over."
        )
    count = len(examples)
    new = count - int(np.searchsorted(examples.as_of, new_since))
    most = min(new, ENOUGH_HELD_OUT, int(count * MOST_HELD_OUT))
    held_out = max(most, int(count * LEAST_HELD_OUT), 1)
    start = max(int(examples.as_of[count - held_out]), not_before)
    train = examples.take(examples.as_of + within <= start)
    holdout = examples.take(examples.as_of >= start)
    if not len(train) or not len(holdout):
        known = max(int(examples.as_of[0]) + within, not_before)
        raise ModelError(
            f"{len(examples)} requests cannot be parted: {len(train)} had their outcome before "
            f"the {len(holdout)} to judge by.",
            f"Try again when the newest requests whose outcome is known are from after "
            f"{to_iso(known)}, or shorten the outcome's within=.",
        )
    return Split(train, holdout, start)


def train(
    model: ModelSpec,
    item: str,
    parts: Split,
    categories: Mapping[str, Sequence[str]],
    *,
    convert: Converter,
    root: Path,
    cut: int,
) -> Trained:
    """Call the project's training function and store what it returns as a bundle under ``root``.

    The bundle is a function of the definitions, the data and the estimator alone: a training
    function that always gives the same estimator always gives the same digest.

    Raises
    ------
    ModelError
        If the training function fails, or its estimator cannot be converted.
    """
    categorical = tuple(
        start
        for start, column in zip(_starts(model.columns), model.columns, strict=True)
        if column.address in categories
    )
    estimator = _call(model, parts.train, categorical)
    data = convert(estimator)
    bundle = Bundle(
        model=model.name,
        columns=columns_of(model, categories),
        item=item,
        scorer=scorer_file(data),
        metric=model.metric,
        trained={
            "cut": cut,
            "until": parts.start,
            "requests": len(parts.train),
            "rows": len(parts.train.y),
            "data": parts.train.digest(),
            "code": model.code_digest,
        },
        definition_digest=model.definition_digest,
        folds=folds_of(model),
    )
    return Trained(write_bundle(root, bundle, data), _params(estimator))


def trained_until(root: Path, digest: str) -> int:
    """Return the moment (µs UTC) from which on the bundle's training has seen nothing."""
    bundle, _ = read_bundle(root, digest)
    return int(bundle.trained.get("until", 0))


def score(
    root: Path,
    digest: str,
    loaders: Mapping[str, ScorerLoader],
    model: ModelSpec,
    examples: Examples,
    *,
    categories: Mapping[str, Sequence[str]],
) -> npt.NDArray[np.float64] | None:
    """Return the scores a bundle gives the examples; None if they lack a column that it reads.

    ``loaders`` are by format; ``categories`` are those that the examples' texts are coded by.

    Raises
    ------
    ModelError, CorruptData
        If the bundle cannot be loaded.
    """
    bundle, data = read_bundle(root, digest)
    known = columns_of(model, {})
    starts = dict(zip(known, _starts(known), strict=True))
    places: list[int] = []
    codes: list[tuple[int, npt.NDArray[np.float32]]] = []
    for column in bundle.columns:
        start = starts.get(_meaning(column))
        if start is None:
            return None
        if isinstance(column, FeatureColumn | RequestColumn) and column.categories is not None:
            known_here = categories.get(column.address, ())
            codes.append((len(places), _translation(known_here, column.categories)))
        places += range(start, start + column.width)
    x = examples.x[:, places]
    for place, translated in codes:
        coded = np.nan_to_num(x[:, place], nan=len(translated) - 1).astype(np.int64)
        x[:, place] = translated[np.minimum(coded, len(translated) - 1)]
    loader = loader_of(loaders, bundle)
    scorer = loader.load(data, len(places))
    # One in another process has a deadline for each call, which a whole holdout would not keep.
    step = WAITING_ROWS if loader.waits else max(len(x), 1)
    parts = [
        scorer.score(np.ascontiguousarray(x[start : start + step]))
        for start in range(0, len(x), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def loader_of(loaders: Mapping[str, ScorerLoader], bundle: Bundle) -> ScorerLoader:
    """Return what loads a bundle's model.

    Raises
    ------
    ModelError
        If nothing here does.
    """
    loader = loaders.get(bundle.scorer.format)
    if loader is None:
        raise ModelError(f"Nothing here loads models in the format {bundle.scorer.format}.")
    return loader


def _translation(known: Sequence[str], own: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return a model's own code for each code; NaN, as the last of all, for what it never saw."""
    places = {value: place for place, value in enumerate(own)}
    return np.array([*(places.get(value, np.nan) for value in known), np.nan], np.float32)


def _starts(columns: Sequence[Readable | ColumnSpec]) -> list[int]:
    """Return where each column begins in the matrix: a vector takes as many as its numbers."""
    ends = accumulate(column.width for column in columns)
    return [end - column.width for end, column in zip(ends, columns, strict=True)]


def _meaning(column: ColumnSpec) -> ColumnSpec:
    """Return a column without its dictionary, which only grows."""
    if isinstance(column, FeatureColumn | RequestColumn):
        return msgspec.structs.replace(column, categories=None)
    return column


def text_columns(model: ModelSpec) -> list[Readable]:
    """Return the columns whose values are coded by a dictionary."""
    return [column for column in model.columns if column.dtype == "str"]


def _call(model: ModelSpec, examples: Examples, categorical: tuple[int, ...]) -> Any:
    """Run the user's code: whatever it raises fails the turn, not the process."""
    if model.train is None:
        raise ModelError(
            f"{model.name} is adopted: nothing here trains it.",
            "Adopt its next version with feilun adopt.",
        )
    try:
        return model.train(examples.dataset(categorical))
    except FeilunError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"Training {model.name} raised {type(error).__name__}: {error}.",
            f"Mend the function {model.name}; the version in production stays.",
        ) from error


def _params(estimator: Any) -> dict[str, str]:
    """Return what the estimator says of itself, as scikit-learn's do."""
    ask = getattr(estimator, "get_params", None)
    found = ask() if callable(ask) else getattr(estimator, "params", {})
    return {str(name): str(value) for name, value in dict(found).items() if value is not None}
