"""The statistics, by kind: a closed registry."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from feilun.aggregation.statistics.base import Events, Statistic, Window
from feilun.aggregation.statistics.counting import Count
from feilun.aggregation.statistics.custom import Custom
from feilun.aggregation.statistics.decayed import Decayed
from feilun.aggregation.statistics.distinct import Distinct
from feilun.aggregation.statistics.extremes import Max, Min
from feilun.aggregation.statistics.order import First, Last, SinceLast
from feilun.aggregation.statistics.quantile import Quantile
from feilun.aggregation.statistics.spread import Std, Var
from feilun.aggregation.statistics.sums import Mean, Sum
from feilun.aggregation.statistics.top import Top
from feilun.definitions.specs import DType, FoldSpec, Kind

STATISTICS: Mapping[Kind, type[Statistic]] = MappingProxyType(
    {
        "count": Count,
        "sum": Sum,
        "mean": Mean,
        "var": Var,
        "std": Std,
        "min": Min,
        "max": Max,
        "first": First,
        "last": Last,
        "since_last": SinceLast,
        "top": Top,
        "distinct": Distinct,
        "quantile": Quantile,
        "decayed": Decayed,
    }
)
"""Every kind but ``custom``, which brings its own."""


def statistic_of(spec: FoldSpec) -> Statistic:
    """Return what computes a fold."""
    if spec.custom is not None:
        return Custom(spec.dtype, spec.custom)
    return _statistic(spec.kind, spec.dtype, spec.n, spec.half_life, spec.dim)


@lru_cache(maxsize=1024)
def _statistic(kind: Kind, dtype: DType, n: int, half_life: int, dim: int) -> Statistic:
    return STATISTICS[kind](dtype, n, half_life, dim)


__all__ = ["STATISTICS", "Events", "Statistic", "Window", "statistic_of"]
