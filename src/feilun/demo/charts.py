"""Line charts as SVG, drawn by hand so that a report needs nothing from the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import pairwise

_Scale = Callable[[float], float]

WIDTH, HEIGHT = 860, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 240, 12, 30
GRIDLINES = 5
LABEL_GAP = 15

COLOURS: Mapping[str, str] = {
    "flywheel": "#c2410c",
    "frozen": "#0e7490",
    "recency_rule": "#6d28d9",
    "rule": "#6d28d9",
    "popularity": "#94a3b8",
}


def line_chart(
    title: str,
    labels: Sequence[str],
    lines: Sequence[tuple[str, str, Sequence[float | None]]],
) -> str:
    """Draw lines over the same places.

    Parameters
    ----------
    title : str
        What a screen reader says.
    labels : sequence of str
        One a place; the first, the middle and the last are written under the axis.
    lines : sequence of (key, name, values)
        ``key`` chooses the colour, ``name`` stands at the line's end. A None leaves a gap.
    """
    known = [value for _, _, values in lines for value in values if value is not None]
    if not known:
        return ""
    top = max(known) * 1.08 or 1.0
    places = max(len(labels) - 1, 1)

    def x(place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * place / places

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for step in range(GRIDLINES):
        value = top * step / (GRIDLINES - 1)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text class="tick" x="{LEFT - 6}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:.2f}</text>'
        )
    parts += [
        f'<text class="tick" x="{x(place):.1f}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(labels[place])}</text>"
        for place in sorted({0, (len(labels) - 1) // 2, len(labels) - 1})
    ]
    ends = _spread([y(_last(values)) for _, _, values in lines])
    for (key, name, values), end in zip(lines, ends, strict=True):
        colour = COLOURS[key]
        parts.append(f'<path class="line" d="{_path(values, x, y)}" stroke="{colour}"/>')
        parts.append(
            f'<text class="name" x="{WIDTH - RIGHT + 8}" y="{end + 4:.1f}" fill="{colour}">'
            f"{escape(name)} {_last(values):.3f}</text>"
        )
    return "".join(parts) + "</svg>"


def _path(values: Sequence[float | None], x: _Scale, y: _Scale) -> str:
    path, pen = [], "M"
    for place, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        path.append(f"{pen}{x(place):.1f} {y(value):.1f}")
        pen = "L"
    return "".join(path)


def _last(values: Sequence[float | None]) -> float:
    return next((value for value in reversed(values) if value is not None), 0.0)


def _spread(heights: Sequence[float]) -> list[float]:
    """Move labels apart that would cover each other."""
    placed = list(heights)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + LABEL_GAP)
    return placed
