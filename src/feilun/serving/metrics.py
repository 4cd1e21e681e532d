"""Counters, gauges and histograms in Prometheus's text format, version 0.0.4.

Each worker process counts for itself and says so in the label ``worker``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the histograms' buckets."""

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """What one worker has counted. Called by the event loop alone.

    Examples
    --------
    >>> metrics = Metrics({"feilun_requests_total": "Requests answered."}, worker="a")
    >>> metrics.add("feilun_requests_total", route="/health")
    >>> print(metrics.expose(), end="")
    # HELP feilun_requests_total Requests answered.
    # TYPE feilun_requests_total counter
    feilun_requests_total{worker="a",route="/health"} 1
    """

    def __init__(self, descriptions: Mapping[str, str], worker: str) -> None:
        self._descriptions = descriptions
        self._worker = ("worker", worker)
        self._counters: dict[tuple[str, Labels], float] = {}
        self._gauges: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[tuple[str, Labels], list[float]] = {}

    def add(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter."""
        key = (name, tuple(labels.items()))
        self._counters[key] = self._counters.get(key, 0) + amount

    def count(self, name: str, value: float, /, **labels: str) -> None:
        """Set a counter to what was counted elsewhere, for all workers."""
        self._counters[name, tuple(labels.items())] = value

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        self._gauges[name, tuple(labels.items())] = value

    def observe(self, name: str, seconds: float, /, **labels: str) -> None:
        """Count a duration in a histogram."""
        key = (name, tuple(labels.items()))
        cells = self._histograms.get(key)
        if cells is None:
            # A cell for each bucket, one for what is above them all, and the sum.
            cells = self._histograms[key] = [0.0] * (len(SECONDS) + 2)
        cells[bisect_left(SECONDS, seconds)] += 1
        cells[-1] += seconds

    def expose(self) -> str:
        """Return everything as text."""
        lines: list[str] = []
        for name, description in self._descriptions.items():
            samples = self._samples(name)
            if samples:
                kind, body = samples
                lines += [f"# HELP {name} {description}", f"# TYPE {name} {kind}", *body]
        return "\n".join(lines) + "\n"

    def _samples(self, name: str) -> tuple[str, list[str]] | None:
        for kind, values in (("counter", self._counters), ("gauge", self._gauges)):
            lines = [
                f"{name}{self._labels(labels)} {value:.15g}"
                for (known, labels), value in values.items()
                if known == name
            ]
            if lines:
                return kind, lines
        lines = []
        for (known, labels), cells in self._histograms.items():
            if known == name:
                lines += self._histogram(name, labels, cells)
        return ("histogram", lines) if lines else None

    def _histogram(self, name: str, labels: Labels, cells: list[float]) -> list[str]:
        lines, total = [], 0.0
        for bound, cell in zip((*map(str, SECONDS), "+Inf"), cells[:-1], strict=True):
            total += cell
            lines.append(f"{name}_bucket{self._labels((*labels, ('le', bound)))} {total:.15g}")
        lines.append(f"{name}_sum{self._labels(labels)} {cells[-1]:.15g}")
        lines.append(f"{name}_count{self._labels(labels)} {total:.15g}")
        return lines

    def _labels(self, labels: Labels) -> str:
        pairs = (f'{key}="{_escape(value)}"' for key, value in (self._worker, *labels))
        return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
