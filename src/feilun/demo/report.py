"""The report: one HTML file that opens without a network, and a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from feilun.demo.charts import line_chart
from feilun.demo.figures import CONTENDERS, Figures, Interval, TurnFigures
from feilun.i18n import _, language

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
  color: #1e293b; background: #f8fafc; margin: 0; }
main { max-width: 920px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 30px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 44px 0 8px; }
p { max-width: 72ch; } .lead { color: #475569; margin-top: 0; }
.note { border-left: 4px solid #f59e0b; background: #fffbeb; padding: 10px 16px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px;
  margin: 26px 0; }
.card { background: #fff; border: 1px solid #e2e8f0; border-radius: 10px; padding: 14px 18px; }
.card b { display: block; font-size: 28px; line-height: 1.2; color: #c2410c; }
.card span { color: #475569; font-size: 14px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; background: #fff; font-size: 14px; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid #e2e8f0;
  font-variant-numeric: tabular-nums; }
th { color: #475569; font-weight: 600; } .text { text-align: left; }
tr.flywheel td { font-weight: 600; color: #c2410c; }
svg { width: 100%; height: auto; background: #fff; border: 1px solid #e2e8f0; border-radius: 10px; }
.grid { stroke: #e2e8f0; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.tick { font-size: 11px; fill: #64748b; } .name { font-size: 12px; font-weight: 600; }
code { background: #e2e8f0; border-radius: 4px; padding: 1px 5px; font-size: 13px; }
"""


def html(figures: Figures) -> str:
    """Return the whole page."""
    body = "".join(
        (
            _head(figures),
            _cards(figures),
            _lists(figures),
            _demand(figures),
            _turns(figures),
            _shared(figures),
            _method(figures),
        )
    )
    title = _("Feilun: the shop's report")
    return (
        f'<!doctype html><html lang="{language().replace("_", "-")}"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><main>{body}</main></html>\n"
    )


def lists_rows(figures: Figures) -> list[list[str]]:
    """Return the table of lists: name, hit, precision, recall."""
    rows = []
    for name in CONTENDERS:
        made = figures.later_half[name]
        rows.append([contender(name), _3(made.hit), _3(made.precision), _3(made.recall)])
    return rows


def forecast_rows(figures: Figures) -> list[list[str]]:
    """Return the table of forecasts: name, error."""
    return [
        [_("same days of recent weeks"), _3(figures.forecast.rule)],
        [contender("flywheel"), _3(figures.forecast.flywheel)],
    ]


def turn_headings() -> list[str]:
    """Return the headings of the table of turns."""
    return [_("turn"), _("model"), _("trigger"), _("examples"), _("gate: better by"),
            _("decision"), _("seconds"), _("effect afterwards")]  # fmt: skip


def turn_row(turn: TurnFigures) -> list[str]:
    """Return one turn's row."""
    decision = turn.decision if turn.version is None else f"{turn.decision} v{turn.version}"
    return [str(turn.turn), turn.model, turn.trigger, f"{turn.rows:,}", interval(turn.gate),
            decision, f"{turn.seconds:.1f}", interval(turn.effect)]  # fmt: skip


def contender(name: str) -> str:
    """Return what a list is called in the reader's language."""
    return {
        "popularity": _("popularity"),
        "recency_rule": _("personal recency rule"),
        "frozen": _("first model, frozen"),
        "flywheel": _("flywheel"),
        "rule": _("same days of recent weeks"),
    }[name]


def interval(value: Interval | None) -> str:
    """Write an estimate with its interval.

    Examples
    --------
    >>> interval(Interval(0.0123, 0.01, 0.0146))
    '+0.0123 [+0.0100, +0.0146]'
    >>> interval(None)
    '–'
    """
    if value is None or value.estimate != value.estimate:
        return "–"
    return f"{value.estimate:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


def _head(figures: Figures) -> str:
    lead = _(
        "{orders} orders of {customers} customers, {lines} lines of {products} products, "
        "{first} to {last}: {source}.",
        orders=f"{figures.orders:,}", customers=f"{figures.customers:,}",
        lines=f"{figures.lines:,}", products=f"{figures.products:,}",
        first=figures.first_day, last=figures.last_day, source=figures.source,
    )  # fmt: skip
    note = _(
        "This is a replay. The customers never saw these lists, so it measures foresight, not "
        "uplift: how well each list foretold the order that came after it."
    )
    return (
        f"<h1>{escape(_('The loop turns'))}</h1><p class=lead>{escape(lead)}</p>"
        f"<p class=note>{escape(note)}</p>"
    )


def _cards(figures: Figures) -> str:
    cards = [
        (_3(figures.later_half["flywheel"].precision), _("precision at 10, later half")),
        (f"{figures.flywheel_over_rule.estimate:+.4f}", _("over the personal recency rule")),
        (f"{figures.flywheel_over_frozen.estimate:+.4f}", _("over the first model, frozen")),
        (str(len(figures.turns)), _("turns, by themselves")),
    ]
    inner = "".join(
        f"<div class=card><b>{escape(value)}</b><span>{escape(label)}</span></div>"
        for value, label in cards
    )
    return f"<div class=cards>{inner}</div>"


def _lists(figures: Figures) -> str:
    lines = [(line.name, contender(line.name), line.values) for line in figures.precision]
    chart = line_chart(_("Precision at 10 over time"), figures.precision_days, lines)
    headings = [_("list"), _("hit"), _("precision"), _("recall")]
    text = _(
        "Later half of the {judged} judged orders (from a customer's fourth on), each predicted "
        "before it was seen. Flywheel over the rule {over_rule}; over the first model frozen when "
        "a tenth of the orders had been seen {over_frozen}: differences in precision at 10, with "
        "95% intervals bootstrapped over customers.",
        judged=f"{figures.judged:,}", over_rule=interval(figures.flywheel_over_rule),
        over_frozen=interval(figures.flywheel_over_frozen),
    )  # fmt: skip
    table = _table(headings, lists_rows(figures), highlight=contender("flywheel"))
    return _section(_("Lists of ten"), chart, table, text)


def _demand(figures: Figures) -> str:
    if not figures.forecast_error:
        return ""
    lines = [(line.name, contender(line.name), line.values) for line in figures.forecast_error]
    chart = line_chart(_("Forecast error over time"), figures.forecast_days, lines)
    text = _(
        "Each midnight the next day's demand is forecast for the fifty best sellers of the last "
        "four weeks ({forecasts} forecasts). Weighted absolute percentage error of the later half, "
        "lower is better; the rule's less the flywheel's is {difference} (95%, over products).",
        forecasts=f"{figures.forecasts:,}", difference=interval(figures.rule_over_forecast),
    )  # fmt: skip
    headings = [_("forecast"), _("error")]
    table = _table(headings, forecast_rows(figures), highlight=contender("flywheel"))
    return _section(_("Tomorrow's demand"), chart, table, text)


def _turns(figures: Figures) -> str:
    text = _(
        "A turn begins by itself after enough new outcomes. The gate compares the challenger with "
        "the champion on the newest outcomes, which neither was trained on; the effect is what the "
        "version that took over changed on the outcomes that came later, each version scoring the "
        "same logged rows."
    )
    rows = [turn_row(turn) for turn in figures.turns]
    return _section(_("Turns"), _table(turn_headings(), rows, texts=(1, 2, 5)), text)


def _shared(figures: Figures) -> str:
    names = ", ".join(f"<code>{escape(name)}</code>" for name in figures.shared_features)
    text = _("Both models read these features, computed once:")
    return f"<h2>{escape(_('Shared features'))}</h2><p>{escape(text)} {names or '–'}</p>"


def _method(figures: Figures) -> str:
    stock = _(
        "The stock is made up from the orders ({stock_events} stock events): shelves are filled "
        "each evening to one and a half times a product's best day so far. Products ran out "
        "{times_out} times; lists showed one that had run out {shown_out} times.",
        stock_events=f"{figures.stock_events:,}", times_out=f"{figures.times_out:,}",
        shown_out=f"{figures.shown_out:,}",
    )  # fmt: skip
    run = _(
        "{events} events went through the collector in {seconds} seconds, turns included. Orders "
        "of the same moment did not see each other.",
        events=f"{figures.events:,}", seconds=f"{figures.seconds:.0f}",
    )  # fmt: skip
    paragraphs = [stock, run]
    if figures.left_out:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in figures.left_out.items())
        paragraphs.append(_("Lines left out: {reasons}.", reasons=reasons))
    inner = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)
    return f"<h2>{escape(_('How it was done'))}</h2>{inner}"


def _section(title: str, *parts: str) -> str:
    *blocks, text = parts
    return f"<h2>{escape(title)}</h2><p>{escape(text)}</p>{''.join(blocks)}"


def _table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    texts: Sequence[int] = (0,),
    highlight: str = "",
) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if at in texts else ''}>{escape(cell)}</{tag}>"
            for at, cell in enumerate(row)
        )

    head = f"<tr>{cells('th', headings)}</tr>"
    body = "".join(
        f"<tr{' class=flywheel' if row[0] == highlight else ''}>{cells('td', row)}</tr>"
        for row in rows
    )
    return f"<div class=wide><table>{head}{body}</table></div>"


def _3(value: float) -> str:
    return f"{value:.3f}"
