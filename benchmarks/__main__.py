"""``python -m benchmarks``: run benchmarks, print what was measured, and write it down."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping

from benchmarks import backfill, collector, freshness, online, serving, stream_fold, training_set
from benchmarks.harness import Result, keep, show

BENCHMARKS: Mapping[str, Callable[[], Iterator[Result]]] = {
    "online_1x10": online.one_key,
    "online_500x10": online.many_keys,
    "stream_fold": stream_fold.run,
    "freshness_p99_ms": freshness.run,
    "training_set": training_set.run,
    "backfill_100m": backfill.run,
    "collector": collector.run,
    "score_row": serving.score_row,
    "lookup_score": serving.lookup_score,
    "rank_500": serving.rank_500,
    "overload": serving.overload,
}


def main() -> None:
    """Run what was asked for, in the order above."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help="names, with commas between; all without it")
    wanted = [name for name in parser.parse_args().only.split(",") if name]
    unknown = [name for name in wanted if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"Unknown: {', '.join(unknown)}. Known: {', '.join(BENCHMARKS)}.")
    for name, benchmark in BENCHMARKS.items():
        if not wanted or name in wanted:
            print(f"… {name}", file=sys.stderr, flush=True)
            results = list(benchmark())
            keep(results)
            show(results)


if __name__ == "__main__":
    main()
