"""The pure kernel: fold, merge, read, and the naive oracle.

A tile is a fold over events; a feature is a read over merged tiles. No I/O, no clock, NumPy only.
"""

from feilun.aggregation.codec import decode, encode
from feilun.aggregation.family import Family, make_families
from feilun.aggregation.folding import expire, fold, fold_all, merge, zero
from feilun.aggregation.frames import Column, EventFrame
from feilun.aggregation.hops import floor_hop, window_start
from feilun.aggregation.keys import encode_key, encode_value, encode_values
from feilun.aggregation.oracle import naive
from feilun.aggregation.past import read_past
from feilun.aggregation.plan import Plan, plan_folds
from feilun.aggregation.reading import read
from feilun.aggregation.tiles import Tiles

__all__ = [
    "Column",
    "EventFrame",
    "Family",
    "Plan",
    "Tiles",
    "decode",
    "encode",
    "encode_key",
    "encode_value",
    "encode_values",
    "expire",
    "floor_hop",
    "fold",
    "fold_all",
    "make_families",
    "merge",
    "naive",
    "plan_folds",
    "read",
    "read_past",
    "window_start",
    "zero",
]
