"""What events are made into: features, rebuild."""

from __future__ import annotations

import difflib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feilun.cli.options import configured, json_option, project_option
from feilun.clock import SystemClock
from feilun.errors import CorruptData, InputError, UnknownName
from feilun.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feilun.aggregation.frames import Column
    from feilun.definitions.specs import ExpressionSpec, FeatureSpec, Project
    from feilun.features.online import OnlineReader


@click.command("features", help=_("Show the values of features now."))
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="ADDRESS... [KEY=VALUE]...",
    help=_("Features as view:feature, or whole views; and whose: user_id=1."),
)
@project_option
@json_option
def features(words: tuple[str, ...], project: Path | None, *, as_json: bool) -> None:
    """Read features from the store, at this moment; the platform need not run."""
    from feilun.app import compose
    from feilun.app.terminal import say_json, say_table
    from feilun.cli.values import pairs_of, typed

    config = configured(project)
    definitions = compose.definitions(config)
    wanted = _wanted(definitions, [word for word in words if "=" not in word])
    entities = {entity.name: entity for spec in wanted for entity in spec.keys}
    pairs = pairs_of(word for word in words if "=" in word)
    values = typed(pairs, {name: entity.dtype for name, entity in entities.items()})
    keys = {name: value for name, value in values.items() if not isinstance(value, float)}
    missing = [name for name in entities if name not in keys]
    if missing:
        raise InputError(
            _("Whose? {names} is missing.", names=", ".join(missing)), f"{missing[0]}=…"
        )
    with (
        closing(compose.event_log(config)),  # refuses a data folder with somebody who was erased
        closing(compose.online_store(config)) as store,
    ):
        found = _read(compose.online_reader(definitions, store), wanted, keys)
    if as_json:
        say_json(found)
    else:
        say_table(
            (_("feature"), _("value")),
            [(name, _("missing") if v is None else v) for name, v in found["features"].items()],
        )


@click.command("rebuild", help=_("Compute all features anew from the log."))
@project_option
def rebuild(project: Path | None) -> None:
    """Clear the store and fold the whole log again; features are missing until it ends."""
    from feilun.app import compose
    from feilun.app.config import prepare_data
    from feilun.app.locks import ProcessLock
    from feilun.app.terminal import say

    config = configured(project)
    definitions = compose.definitions(config)
    prepare_data(config)
    with (
        ProcessLock(config.run_path, "engine"),
        closing(compose.event_log(config)) as log,
        closing(compose.online_store(config)) as store,
        closing(compose.releases(config)) as history,
    ):
        count = compose.engine(config, definitions, log, store, history).rebuild()
    say(_("{count} records folded.", count=count))


def _wanted(definitions: Project, words: Sequence[str]) -> list[FeatureSpec | ExpressionSpec]:
    """Return the features that the words name; a view's name stands for all of its features."""
    by_address = {f.address: [f] for view in definitions.views.values() for f in view.readable}
    named = {name: list(view.readable) for name, view in definitions.views.items()} | by_address
    if not words:
        raise InputError(_("Which features?"), _("Known: {names}.", names=", ".join(named)))
    found: list[FeatureSpec | ExpressionSpec] = []
    for word in words:
        if word not in named:
            close = difflib.get_close_matches(word, named, n=1)
            raise UnknownName(
                _("There is no feature or view {name}.", name=repr(word)),
                _("Did you mean {name}?", name=repr(close[0])) if close else "feilun check",
            )
        found += named[word]
    return found


def _read(
    reader: OnlineReader,
    wanted: Sequence[FeatureSpec | ExpressionSpec],
    keys: dict[str, int | str],
) -> dict[str, Any]:
    from feilun.definitions.specs import features_of
    from feilun.features.expressions import complete

    with reader.snapshot() as snapshot:
        mark = snapshot.mark
        as_of = max(SystemClock().now(), mark.time + 1)
        columns = snapshot.read(features_of(wanted), keys, None, (), as_of)
        if snapshot.damaged:
            raise CorruptData(
                _("What is stored of {names} is damaged.", names=", ".join(snapshot.damaged)),
                _("Make it anew from the log: feilun rebuild"),
            )
    columns = complete(wanted, columns)
    return {
        "keys": keys,
        "as_of": as_of,
        "folded_offset": mark.offset,
        "features": {spec.address: _plain(columns[spec.address], spec) for spec in wanted},
    }


def _plain(column: Column, spec: FeatureSpec | ExpressionSpec) -> Any:
    """Return the only value of a column as Python has it; what stands in where it is missing."""
    from feilun.features.read_plan import stand_in

    if not column.present[0]:
        return stand_in(spec)
    value = column.values[0]
    return value.tolist() if hasattr(value, "tolist") else value
