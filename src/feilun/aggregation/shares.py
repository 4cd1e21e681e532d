"""Shares of a large read of the past: each has keys of its own, so that none needs another.

A share's columns fit into the processor's cache, where sorting and looking up are several times
faster, and the shares are read on every core: NumPy lets other threads run while it works on
arrays. How the shares are cut depends on the events and the queries alone, so that the number of
threads changes no value.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from feilun.aggregation.frames import Int64

UInt16 = npt.NDArray[np.uint16]

SHARE = 1 << 19
"""Events and queries in a share, about; one key is never cut."""
_THREADS = min(os.cpu_count() or 1, 8)
"""Each thread has the arrays of one share in memory."""

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class Share(NamedTuple):
    """The places of some events and queries; ``first`` is the least code of their keys."""

    events: Int64
    queries: Int64
    first: int


def cut(codes: Int64, asked: Int64) -> list[Share]:
    """Put each query into a share, and with it the events of its key.

    Where there are many, events of keys that no query asks for are in no share. Events and queries
    keep their order.

    Parameters
    ----------
    codes : int64 array
        The key of each event, as a number from 0.
    asked : int64 array
        The key of each query; -1 where no event has it.

    Examples
    --------
    >>> [share] = cut(np.array([5, 3, 5, 4]), np.array([5, -1, 3]))
    >>> share.events.tolist(), share.queries.tolist(), share.first
    ([0, 1, 2, 3], [0, 1, 2], 0)
    """
    if len(codes) + len(asked) <= SHARE:
        return [Share(np.arange(len(codes)), np.arange(len(asked)), 0)]
    most = max(codes.max(initial=-1), asked.max(initial=-1)) + 1
    sizes, queries = np.bincount(codes, minlength=most), np.bincount(asked + 1, minlength=most + 1)
    wanted = queries[1:] > 0
    loads = queries + np.append(0, np.where(wanted, sizes, 0))
    _, begins, inverse = np.unique(
        (np.cumsum(loads) - loads) // SHARE, return_index=True, return_inverse=True
    )
    share_of: UInt16 = inverse.astype(np.uint16)  # sorted without comparisons, being so short
    count = len(begins)
    of_wanted = np.where(wanted, share_of[1:], np.uint16(count))
    of_events = _places(of_wanted, codes, count)
    of_queries = _places(share_of, asked + 1, count)
    firsts = np.maximum(begins - 1, 0).tolist()
    return [Share(*share) for share in zip(of_events, of_queries, firsts, strict=True)]


def _places(share_of: UInt16, codes: Int64, count: int) -> list[Int64]:
    """Return the places of the codes that are in each share, ascending."""

    def of_some(first: int) -> list[Int64]:
        shares = share_of[codes[first : first + SHARE]]
        places = shares.argsort(kind="stable")
        places += first
        ends = np.cumsum(np.bincount(shares, minlength=count))[:count].tolist()
        return [places[lo:hi] for lo, hi in pairwise([0, *ends])]

    found = in_threads(of_some, range(0, max(len(codes), 1), SHARE))
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def in_threads(work: Callable[[_Task], _Result], tasks: Collection[_Task]) -> list[_Result]:
    """Do work for each task, on every core; return the results in the order of the tasks."""
    if len(tasks) == 1:
        return [work(task) for task in tasks]
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(work, tasks))
