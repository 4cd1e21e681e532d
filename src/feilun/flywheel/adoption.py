"""Adopting a model that somebody else has trained: checked, tried, in production or in shadow."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from feilun.definitions.specs import ClassSpec, ModelSpec
from feilun.errors import ConfigError, InputError, ModelError, WrongColumns
from feilun.flywheel import rollout
from feilun.flywheel.release import await_workers, tell_registry
from feilun.flywheel.workshop import Workshop
from feilun.i18n import _
from feilun.models.bundle import (
    Bundle,
    columns_of,
    folds_of,
    read_bundle,
    scorer_file,
    write_bundle,
)
from feilun.models.example_log import capability_of
from feilun.models.formats import recognise
from feilun.models.training import text_columns
from feilun.ports.releases import Release, Rollout
from feilun.ports.scorer import Scorer, ScorerLoader

TRIAL_ROWS = 32
SAME = 1e-5
"""By how much (relatively) a row's score may differ alone and among others."""


class ModelFile(NamedTuple):
    """A model's bytes, and where they came from, for the record.

    ``format`` is given where the bytes were made here; files are told by their content. A text
    classifier gives the ``column`` that the model reads, and what to ``keep`` beside the bytes.
    """

    data: bytes
    source: str
    format: str | None = None
    column: ClassSpec | None = None
    keep: Callable[[], object] = lambda: None


class Adopted(NamedTuple):
    """What was adopted.

    ``columns`` pairs each column with what the file calls it; ``scores_missing`` says whether a
    row without any feature has a score.
    """

    release: Release | Rollout
    format: str
    sha256: str
    columns: tuple[tuple[str, str], ...]
    scores_missing: bool
    serving: Sequence[str]
    behind: Sequence[str]


def adopt(
    workshop: Workshop,
    model: str,
    file: ModelFile,
    *,
    by: str,
    categories: Mapping[str, Sequence[str]],
    trained_until: int | None = None,
    replace: bool = False,
    shadow: bool = False,
    tell: Callable[[str], None] = lambda _step: None,
) -> Adopted:
    """Put a model that was trained elsewhere in production, or in shadow.

    Nothing is changed unless every check passes: its format, its number of columns and their
    order where it names them, dictionaries for texts, and scores for rows made up.

    Parameters
    ----------
    workshop : Workshop
        What to work with.
    model : str
        The model whose version it becomes; a capability uses it.
    file : ModelFile
        What to adopt.
    by : str
        Who does it, for the history.
    categories : mapping
        By address, the values of each text column in the order of their codes.
    trained_until : int, optional
        Since when (µs UTC) nothing was seen in its training; by default, since now. Turns judge
        it by what came later.
    replace : bool
        Whether it may take the place of a version that is in production.
    shadow : bool
        Whether it scores beside what is in production, and answers nobody.
    tell : callable
        Called with what is done next, for whoever waits.

    Raises
    ------
    InputError
        If there is a version in production or in a rollout that it may not take the place of, or a
        dictionary is missing or of no text column.
    ModelError
        If the file cannot be loaded or does not fit; with the way to convert it.
    ConfigError
        If no capability uses the model.
    Conflict
        If somebody else put a version in production in the meantime.
    """
    defined = spec = workshop.project.models[model]
    if file.column is not None:
        spec = dataclasses.replace(defined, columns=(file.column,))
    elif spec.classes is not None:
        raise ModelError(
            _(
                "{model} tells classes of a text apart, and this is no text classifier.",
                model=model,
            ),
            _("Name the folder of one: config.json, tokenizer.json and model.safetensors."),
        )
    tell(_("Checking {source}, and scoring made-up rows with it.", source=file.source))
    known = _check_place(workshop, model, file.data, replace or shadow)
    if shadow:
        rollout.check_free(workshop, model)
    codes = _dictionaries(spec, categories)
    format = file.format or recognise(file.data)
    loader = workshop.loaders[format]
    scorer = _load(loader, spec, file.data)
    columns = _pair(spec, loader.column_names(file.data))
    scores_missing = _try(scorer, spec.width)
    adopted = {"source": file.source, "by": by, "at": workshop.clock.now()}
    bundle = Bundle(
        model=model,
        columns=columns_of(spec, codes),
        item=_item(workshop, spec),
        scorer=scorer_file(file.data, format),
        metric=spec.metric,
        trained={
            "adopted": adopted,
            "until": workshop.clock.now() if trained_until is None else trained_until,
        },
        definition_digest=defined.definition_digest,
        folds=folds_of(spec),
    )
    tell(_("Registering it with MLflow, which takes seconds to load."))
    file.keep()
    digest = write_bundle(workshop.bundles, bundle, file.data)
    version = _register(workshop, bundle, digest)
    entry: Release | Rollout
    if shadow:
        entry = rollout.start(workshop, model, version, 0.0, by)
    else:
        entry = _release(workshop, bundle, digest, version, by, after=known)
    tell(_("Waiting for the gateway to take it up."))
    if isinstance(entry, Rollout):
        taken = rollout.await_followers(workshop.releases, entry, workshop.clock, workshop.pause)
    else:
        taken = await_workers(workshop, entry)
        if problem := tell_registry(workshop, entry):
            tell(_("MLflow does not know yet what is in production: {reason}", reason=problem))
    return Adopted(entry, format, bundle.scorer.sha256, columns, scores_missing, **taken)


def _check_place(workshop: Workshop, model: str, data: bytes, replace: bool) -> int:
    """Return the sequence of the release that it takes the place of; 0 if there is none."""
    current = workshop.releases.current(model)
    if current is None:
        return 0
    said = {"version": current.version, "model": model}
    bundle = read_bundle(workshop.bundles, current.bundle)[0]
    if bundle.scorer.sha256 == hashlib.sha256(data).hexdigest():
        raise InputError(_("This file is version {version} of {model}, in production.", **said))
    if not replace:
        raise InputError(
            _("Version {version} of {model} is in production.", **said),
            _(
                "feilun adopt … --replace puts the file in its place; feilun rollback takes that "
                "back."
            ),
        )
    return current.sequence


def _load(loader: ScorerLoader, spec: ModelSpec, data: bytes) -> Scorer:
    try:
        return loader.load(data, spec.width)
    except WrongColumns as error:
        raise ModelError(
            _("The file takes {found} columns, {model} has {columns}.",
              found=error.found, model=spec.name, columns=spec.width)
            + "\n" + _("The file's: {names}.", names=", ".join(error.names) or _("not named"))
            + "\n" + _("Those of {model}: {names}.", model=spec.name,
                       names=", ".join(_addresses(spec))),
            _("Write features= as the file was trained, or train it on these."),
        ) from error  # fmt: skip


def _dictionaries(
    spec: ModelSpec, categories: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    texts = [column.address for column in text_columns(spec)]
    missing = [address for address in texts if address not in categories]
    if missing:
        raise InputError(
            _(
                "{model} reads texts, and nothing says their codes: {addresses}.",
                model=spec.name,
                addresses=", ".join(missing),
            ),
            _(
                "Give --categories FILE, as JSON: {example}",
                example='{"address": ["the text of code 0", "of code 1", …]}',
            ),
        )
    unknown = sorted(set(categories) - set(texts))
    if unknown:
        raise InputError(
            _(
                "{addresses}: no text column of {model} has that address.",
                addresses=", ".join(unknown),
                model=spec.name,
            ),
            _("Its text columns: {names}.", names=", ".join(texts) or _("none")),
        )
    for address, values in categories.items():
        if len(set(values)) != len(values):
            raise InputError(_("The dictionary of {address} has a value twice.", address=address))
    return {address: tuple(categories[address]) for address in texts}


def _pair(spec: ModelSpec, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pair columns with the file's names; refuse the same names in another order."""
    addresses = _addresses(spec)
    short = [address.rpartition(":")[2] for address in addresses]
    for own in (addresses, short):
        if len(set(own)) == len(own) and set(own) == set(names) and own != list(names):
            raise ModelError(
                _(
                    "The file takes its columns in another order than {model}: {names}.",
                    model=spec.name,
                    names=", ".join(names),
                ),
                _("Write features= in the file's order."),
            )
    return tuple(zip(addresses, names or [""] * len(addresses), strict=True))


def _addresses(spec: ModelSpec) -> list[str]:
    """Return a name for each column of the matrix."""
    return [
        f"{column.address}[{place}]" if column.width > 1 else column.address
        for column in spec.columns
        for place in range(column.width)
    ]


def _try(scorer: Scorer, columns: int) -> bool:
    """Score made-up rows; return whether one without any feature has a score, too."""
    rows = np.random.default_rng(0).integers(0, 3, (TRIAL_ROWS, columns)).astype(np.float32)
    rows[0] = 0
    scores = _scores(scorer, rows)
    if not np.isfinite(scores).all():
        raise ModelError(
            _(
                "The model gives scores that are not finite numbers, for rows of small whole "
                "numbers."
            ),
            _("Convert it again, and try it where it was trained."),
        )
    alone = np.concatenate([_scores(scorer, row[None].copy()) for row in rows[:4]])
    if not np.allclose(alone, scores[:4], rtol=SAME, atol=SAME):
        raise ModelError(
            _("The model scores a row otherwise alone than among others."),
            _("Convert it for inference: without batch statistics, dropout, or a fixed batch."),
        )
    try:
        missing = _scores(scorer, np.full((1, columns), np.nan, np.float32))
    except ModelError:
        return False
    return bool(np.isfinite(missing).all())


def _scores(scorer: Scorer, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    try:
        scores = scorer.score(rows)
    except ModelError:
        raise
    except Exception as error:  # a library that is not ours: whatever it raises is the model's
        raise ModelError(
            _("The model raised {kind}: {error}", kind=type(error).__name__, error=error)
        ) from error
    if scores.shape != (len(rows),):
        raise ModelError(
            _("The model did not give one score for each of {rows} rows.", rows=len(rows))
        )
    return scores


def _item(workshop: Workshop, spec: ModelSpec) -> str:
    try:
        return capability_of(workshop.project, spec).item
    except ModelError as error:
        raise ConfigError(error.message, error.hint) from error


def _register(workshop: Workshop, bundle: Bundle, digest: str) -> int:
    adopted: dict[str, Any] = bundle.trained["adopted"]
    found = workshop.registry.register(
        bundle.model,
        digest,
        workshop.bundles / digest,
        params={"format": bundle.scorer.format},
        metrics={},
        tags={
            "feilun.adopted": adopted["source"],
            "feilun.by": adopted["by"],
            "feilun.file": bundle.scorer.sha256,
            "feilun.definition": bundle.definition_digest,
        },
    )
    return found.version


def _release(
    workshop: Workshop, bundle: Bundle, digest: str, version: int, by: str, *, after: int
) -> Release:
    return workshop.releases.append(
        bundle.model,
        version,
        digest,
        action="adopt",
        offset=workshop.log.end(),
        at=workshop.clock.now(),
        turn=None,
        by=by,
        after=after,
    )
