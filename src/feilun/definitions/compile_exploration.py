"""Compiles how a capability explores, and says what is wrong with it."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

from collections.abc import Callable

from feilun.definitions.exploration import Epsilon, Thompson
from feilun.definitions.problems import Problems
from feilun.definitions.specs import CapabilitySpec, EntitySpec, Readable, ThompsonSpec

MOST_SAMPLED = 50
"""The most items that Thompson sampling may order: what it takes grows with their cube."""
LEAST_PRIOR, MOST_PRIOR = 0.1, 1e6


def compile_exploration(
    where: str,
    explore: object,
    feature: Callable[[str, str, object], Readable | None],
    problems: Problems,
) -> Epsilon | ThompsonSpec | None:
    """Return how a capability explores; None if it does not, or if that is wrong and noted.

    Parameters
    ----------
    where : str
        The capability, for messages.
    explore : object
        What the user gave.
    feature : callable
        From where, setting and feature to its spec; notes what is wrong with it.
    problems : Problems
        Where to note what is wrong.
    """
    if isinstance(explore, Epsilon):
        return explore if _check_epsilon(where, explore, problems) else None
    if isinstance(explore, Thompson):
        successes = feature(where, "successes", explore.successes)
        trials = feature(where, "trials", explore.trials)
        if not _check_thompson(where, explore, problems) or successes is None or trials is None:
            return None
        before, against = explore.prior
        return ThompsonSpec(successes, trials, explore.top, (float(before), float(against)))
    if explore is not None:
        problems.add(
            where,
            f"explore={explore!r} is no exploration.",
            "Write fl.epsilon(0.1, top=20), or fl.thompson(…).",
        )
    return None


def check_evidence(where: str, spec: CapabilitySpec, item: EntitySpec, problems: Problems) -> None:
    """Check that what Thompson sampling goes by are numbers of each item."""
    if not isinstance(spec.explore, ThompsonSpec):
        return
    for each in (spec.explore.successes, spec.explore.trials):
        if each.is_list or each.dtype not in ("int", "float", "bool"):
            problems.add(where, f"{each.address} is not a number.", "Take a count.")
        elif item not in each.keys:
            problems.add(
                where,
                f"{each.address} is alike for all rows: no item could be told from another.",
                f"Take a count from a view of {item.name!r}.",
            )


def _check_epsilon(where: str, explore: Epsilon, problems: Problems) -> bool:
    if not (_is_number(explore.epsilon) and 0 < explore.epsilon <= 1):
        problems.add(
            where, f"{explore.epsilon!r} is no share.", "Give a number above 0, at most 1."
        )
    elif type(explore.top) is not int or explore.top < 2:
        problems.add(
            where, f"there is nothing to shuffle in top={explore.top!r}.", "Give 2 or more."
        )
    else:
        return True
    return False


def _check_thompson(where: str, explore: Thompson, problems: Problems) -> bool:
    prior: object = explore.prior
    if type(explore.top) is not int or not 2 <= explore.top <= MOST_SAMPLED:
        problems.add(
            where,
            f"top={explore.top!r} is no number of items to order by sampling.",
            f"Give 2 to {MOST_SAMPLED}.",
        )
    elif not (isinstance(prior, list | tuple) and len(prior) == 2) or not all(
        _is_number(each) and LEAST_PRIOR <= each <= MOST_PRIOR for each in prior
    ):
        problems.add(
            where,
            f"prior={prior!r} is no belief.",
            f"Give two numbers of {LEAST_PRIOR} to {MOST_PRIOR:.0f}: successes and failures.",
        )
    else:
        return True
    return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
