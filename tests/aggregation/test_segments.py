"""However many rows there are and however far apart their times, they are ordered alike."""

import numpy as np
import pytest

from feilun.aggregation.segments import order_by


@pytest.mark.parametrize("size", [0, 1, 5, 256, 257, 1_000])
@pytest.mark.parametrize("codes", [1, 7, 1 << 40])
@pytest.mark.parametrize("span", [1, 50, 1 << 45, 1 << 63])
@pytest.mark.parametrize("sorted_times", [False, True])
def test_rows_are_ordered_by_code_then_time_and_equal_ones_stay(size, codes, span, sorted_times):
    random = np.random.default_rng(size)
    code = random.integers(0, codes, size)
    time = random.integers(-(span // 2), max(span // 2, 1), size)
    if sorted_times:
        time.sort()
    assert order_by(code, time).tolist() == np.lexsort((time, code)).tolist()
