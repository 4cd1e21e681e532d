"""Which events count."""

import numpy as np
import pytest

from feilun.aggregation.conditions import holds
from feilun.aggregation.frames import Column, EventFrame
from feilun.definitions.specs import ConditionSpec

FRAME = EventFrame(
    time=np.arange(4),
    tie=np.arange(4, dtype=np.uint64),
    known=np.arange(4),
    columns={
        "size": Column(np.array([1, 2, 3, 0]), np.array([True, True, True, False])),
        "color": Column(
            np.array(["red", None, "a\0", "a"], object), np.array([True, False, True, True])
        ),
    },
)
SMALL = ConditionSpec("<", "size", 3)
RED = ConditionSpec("==", "color", "red")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (SMALL, [1, 1, 0, 0]),
        (ConditionSpec("!=", "size", 2), [1, 0, 1, 0]),
        (ConditionSpec(">=", "size", 2**70), [0, 0, 0, 0]),
        (ConditionSpec("in", "size", (1, 3, 9)), [1, 0, 1, 0]),
        (ConditionSpec("<=", "color", "b"), [0, 0, 1, 1]),
        (ConditionSpec("==", "color", "a\0"), [0, 0, 1, 0]),
        (ConditionSpec("in", "color", ("a", "red")), [1, 0, 0, 1]),
        (ConditionSpec("not", parts=(SMALL,)), [0, 0, 1, 1]),
        (ConditionSpec("and", parts=(SMALL, RED)), [1, 0, 0, 0]),
        (ConditionSpec("or", parts=(SMALL, RED)), [1, 1, 0, 0]),
    ],
)
def test_an_absent_field_compares_as_false(condition, expected):
    mask = holds(condition, FRAME)
    assert mask.dtype == np.bool_
    assert mask.astype(int).tolist() == expected
