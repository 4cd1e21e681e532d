"""``feilun demo``: scaffold, replay, measure, report."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from feilun.app import compose
from feilun.app.config import Config, load
from feilun.app.terminal import say, say_table
from feilun.demo import report
from feilun.demo.figures import Figures, Interval, TurnFigures, measure, summary
from feilun.demo.frozen import frozen_lists
from feilun.demo.orders import (
    OrderColumns,
    OrderHistory,
    from_columns,
    instacart,
    instacart_file,
)
from feilun.demo.platform import Platform
from feilun.demo.replay import Replay, Replayed
from feilun.demo.scaffold import free_port, scaffold
from feilun.errors import InputError
from feilun.flywheel.record import turn_record
from feilun.i18n import _
from feilun.models.bundle import read_bundle

REPORT = "report.html"


@click.command("demo", help=_("Replay real shop orders through a running platform and report."))
@click.option(
    "--orders",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=_("Your own order lines, CSV or Parquet, instead of the sample."),
)
@click.option("--customer", default="customer_id", help=_("Your column of customers."))
@click.option("--order", default="order_id", help=_("Your column of order numbers."))
@click.option("--product", default="product_id", help=_("Your column of products."))
@click.option("--time", default="time", help=_("Your column of times."))
@click.option(
    "--quantity", help=_("Your column of quantities: lines of zero or less are left out.")
)
@click.option("--timezone", default="Asia/Shanghai", help=_("The shop's time zone."))
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default="feilun-demo",
    metavar="DIR",
    help=_("The folder of the demo's project; it starts clean."),
)
@click.option(
    "--json", "as_json", is_flag=True, help=_("Print the report alone, as one JSON object.")
)
def demo_command(
    *,
    orders: Path | None,
    customer: str,
    order: str,
    product: str,
    time: str,
    quantity: str | None,
    timezone: str,
    into: Path,
    as_json: bool,
) -> None:
    """Replay real orders through a running platform and report what it foresaw."""
    names = OrderColumns(customer, order, product, time, quantity)
    history = _history(orders, names, timezone)
    scaffold(into, history)
    if not as_json:
        say(_("Replaying {orders} orders ({source}) through a platform in {folder}.",
              orders=f"{len(history.orders):,}", source=history.source, folder=into))  # fmt: skip
    figures = _run(into, history)
    path = into / REPORT
    path.write_text(report.html(figures), encoding="utf-8")
    if as_json:
        print(json.dumps(summary(figures), ensure_ascii=False))  # noqa: T201
        return
    _show(figures)
    say(_("Report: {path}", path=path.resolve()))
    say(_("Serve it now: cd {folder} && feilun up", folder=into))


def _history(orders: Path | None, names: OrderColumns, timezone: str) -> OrderHistory:
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InputError(
            f"There is no time zone {timezone!r}.", "Name one like Asia/Shanghai."
        ) from error
    if orders is None:
        return instacart(compose.read_table(instacart_file()), timezone)
    return from_columns(compose.read_table(orders), names, timezone, orders.name)


def _run(folder: Path, history: OrderHistory) -> Figures:
    """Replay the orders on a platform of their own and judge what came of it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())  # fmt: skip
    with (
        Platform(folder, free_port()) as platform,
        Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar,
    ):
        task = bar.add_task(_("starting"), total=len(history.orders))

        def progress(done: int, turns: int) -> None:
            text = _("orders, {turns} turns so far", turns=turns)
            bar.update(task, completed=done, description=text)

        replayed = Replay(platform, history, progress).run()
    return _judge(folder, history, replayed)


def _judge(folder: Path, history: OrderHistory, replayed: Replayed) -> Figures:
    config = load(folder)
    project = compose.definitions(config)
    releases = compose.releases(config)
    first = next(iter(releases.entries("ranker")), None)
    frozen = {}
    if first is not None:
        bundle, data = read_bundle(config.bundles_path, first.bundle)
        loader = compose.scorer_loaders()[bundle.scorer.format]
        scorer = loader.load(data, sum(column.width for column in bundle.columns))
        log = compose.event_log(replace(config, clock="request"))
        try:
            frozen = frozen_lists(log, "recommend", scorer, replayed.lists, first.offset)
        finally:
            log.close()
    features = [
        {feature.address for feature in model.features} for model in project.models.values()
    ]
    shared = sorted(set.intersection(*features))
    return measure(history, replayed, frozen, _turn_figures(config), shared)


def _turn_figures(config: Config) -> list[TurnFigures]:
    turns = compose.turn_store(config)
    return [_turn(turn_record(turns, turn)) for turn in turns.turns()]


def _turn(record: dict[str, Any]) -> TurnFigures:
    data = record["data"] or {}
    return TurnFigures(
        model=record["model"],
        turn=record["turn"],
        trigger=record["trigger"],
        cut=record["cut"],
        rows=data.get("rows", 0),
        decision=record["state"],
        reason=record["reason"] or "",
        version=record["challenger"]["version"],
        gate=_interval(record["interval"]),
        effect=_interval(record["effect"]),
        seconds=round(sum(record["seconds"].values()), 2),
    )


def _interval(record: dict[str, Any] | None) -> Interval | None:
    if record is None or record.get("estimate") is None:
        return None
    return Interval(*(round(record[name], 4) for name in ("estimate", "low", "high")))


def _show(figures: Figures) -> None:
    say_table(
        [_("list"), _("hit"), _("precision"), _("recall")],
        report.lists_rows(figures),
        _("Lists of ten, later half of the orders"),
    )
    say(_("flywheel over rule {over_rule}, over the first model frozen {over_frozen}",
          over_rule=report.interval(figures.flywheel_over_rule),
          over_frozen=report.interval(figures.flywheel_over_frozen)))  # fmt: skip
    say("")
    say_table(
        [_("forecast"), _("error")],
        report.forecast_rows(figures),
        _("Tomorrow's demand, later half of the days"),
    )
    rows = [report.turn_row(turn) for turn in figures.turns]
    say_table(report.turn_headings(), rows, _("Turns"))
    shared = ", ".join(figures.shared_features) or "–"
    say(_("Features that both models read: {names}", names=shared))
    say(_("This is a replay: customers never saw these lists, so it measures foresight, not "
          "uplift."))  # fmt: skip
    say(_("{seconds} seconds.", seconds=f"{figures.seconds:.0f}"))
