"""A graph as a list of steps, ready to be run for any rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

MAX_TURNS = 20_000
"""How often a loop may turn for one matrix: sequences are not that long."""

Run = Callable[..., Any]


class Step(NamedTuple):
    """One operator: what it does, the places of what goes in, and where its result is put."""

    run: Run
    inputs: tuple[int, ...]
    output: int


class Plan(NamedTuple):
    """Steps over a list of values; those known in advance are in ``values`` already."""

    values: tuple[Any, ...]
    arguments: tuple[int, ...]
    steps: tuple[Step, ...]
    returns: tuple[int, ...]

    def run(self, arguments: Sequence[Any]) -> list[Any]:
        """Return what the plan returns for its arguments."""
        values = list(self.values)
        for at, value in zip(self.arguments, arguments, strict=True):
            values[at] = value
        for run, inputs, output in self.steps:
            values[output] = run(*[values[at] for at in inputs])
        return [values[at] for at in self.returns]


def pick(which: int, results: Sequence[Any]) -> Any:
    """Return one of several results."""
    return results[which]


def chosen(branches: Sequence[Any], choice: Any) -> Any:
    """Return the branch of a condition or a number; the last of those for other numbers."""
    number = int(np.asarray(choice).reshape(-1)[0])
    return branches[number] if 0 <= number < len(branches) else branches[-1]


def run_branch(plans: Sequence[Plan], choice: Any, *values: Any) -> tuple[Any, ...]:
    """Return what the chosen plan returns."""
    return tuple(chosen(plans, choice).run(values))


def run_loop(test: Plan, body: Plan, *values: Any) -> tuple[Any, ...]:
    """Return what is carried when the test does not hold any more.

    Raises
    ------
    ValueError
        If it holds for too long.
    """
    carried: Sequence[Any] = values
    for _ in range(MAX_TURNS):
        if not test.run(carried)[0]:
            return tuple(carried)
        carried = body.run(carried)
    raise ValueError(f"a loop in it turns more than {MAX_TURNS} times")
