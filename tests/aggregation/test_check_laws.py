"""The laws that `feilun check` tries: a good aggregation obeys them all, a bad one is told."""

import itertools

import numpy as np
import pytest

from feilun.aggregation.laws import check_laws
from feilun.aggregation.segments import reduce_segments
from feilun.clock import HOUR
from feilun.definitions.custom import Aggregation
from feilun.definitions.specs import CustomSpec, FoldSpec
from feilun.testing.strategies import DTYPES, KINDS, Extent


def of(kind, dtype, custom=None):
    return FoldSpec(
        kind, "click", "value", dtype, (), 0, "UTC",
        half_life=HOUR, dim=3 if dtype == "vector" else 0,
        custom=custom and CustomSpec(custom.__name__, "", custom),
    )  # fmt: skip


def broken(custom):
    return check_laws(of("custom", "float", custom))


@pytest.mark.parametrize(
    ("kind", "dtype"), [(kind, dtype) for kind in KINDS for dtype in DTYPES[kind]]
)
def test_what_is_built_in_breaks_nothing(kind, dtype):
    assert check_laws(of(kind, dtype, Extent if kind == "custom" else None)) == []


class Total(Aggregation):
    """A good one, which the others spoil."""

    columns = {"total": "<f8", "n": "<i8"}  # noqa: RUF012
    dtype = "float"

    @staticmethod
    def lift(rows, _time, values):
        rows["total"][:] = values
        rows["n"][:] = 1

    @staticmethod
    def reduce(columns, starts):
        return {name: np.add.reduceat(rows, starts) for name, rows in columns.items()}

    @staticmethod
    def finish(columns, offsets, _as_of):
        return reduce_segments(np.add, columns["total"], offsets, 0.0), offsets[1:] > offsets[:-1]


class First(Total):
    @staticmethod
    def reduce(columns, starts):
        return {name: rows[starts] for name, rows in columns.items()}


class MeanOfMeans(Total):
    @staticmethod
    def reduce(columns, starts):
        n = np.diff(np.append(starts, len(columns["n"])))
        return {"total": np.add.reduceat(columns["total"], starts) / n, "n": columns["n"][starts]}


class Difference(Total):
    @staticmethod
    def reduce(columns, starts):
        total = 2 * columns["total"][starts] - np.add.reduceat(columns["total"], starts)
        return {"total": total, "n": columns["n"][starts]}


class InPlace(Total):
    @staticmethod
    def reduce(columns, starts):
        reduced = Total.reduce(columns, starts)
        columns["total"][:] = 0
        return reduced


class InPlaceAtLast(Total):
    @staticmethod
    def finish(columns, offsets, as_of):
        columns["n"][:] += 1
        return Total.finish(columns, offsets, as_of)


class ByNumberOfRows(Total):
    @staticmethod
    def finish(columns, offsets, as_of):
        total, present = Total.finish(columns, offsets, as_of)
        return total / np.maximum(np.diff(offsets), 1), present


class OneMore(Total):
    @staticmethod
    def reduce(columns, starts):
        reduced = Total.reduce(columns, starts)
        return {**reduced, "n": reduced["n"] + 1}


class Complex(Total):
    columns = {"total": "<c16", "n": "<i8"}  # noqa: RUF012

    @staticmethod
    def lift(rows, time, values):
        Total.lift(rows, time, values)
        rows["total"] *= 1j

    @staticmethod
    def finish(columns, offsets, _as_of):
        total = reduce_segments(np.add, columns["total"].imag, offsets, 0.0)
        return total, offsets[1:] > offsets[:-1]


class EmptyWindows(Total):
    @staticmethod
    def finish(columns, offsets, _as_of):
        starts = np.minimum(offsets[:-1], len(columns["total"]) - 1)
        if not len(columns["total"]):
            return np.zeros(len(starts)), np.zeros(len(starts), np.bool_)
        return np.add.reduceat(columns["total"], starts), np.ones(len(starts), np.bool_)


class Chance(Total):
    draws = itertools.count()

    @staticmethod
    def lift(rows, time, values):
        Total.lift(rows, time, values)
        rows["total"][:] += next(Chance.draws)


class Infinite(Total):
    @staticmethod
    def finish(columns, offsets, as_of):
        total, present = Total.finish(columns, offsets, as_of)
        return total / 0.0, present


class Failing(Total):
    @staticmethod
    def finish(_columns, _offsets, _as_of):
        raise ZeroDivisionError("oh")


class WrongShape(Total):
    @staticmethod
    def reduce(columns, _starts):
        return columns


class Forgetful(Total):
    @staticmethod
    def reduce(columns, starts):
        return {"total": np.add.reduceat(columns["total"], starts)}


class NoPair(Total):
    @staticmethod
    def finish(columns, offsets, as_of):
        return Total.finish(columns, offsets, as_of)[0]


def test_a_good_one_breaks_nothing():
    assert broken(Total) == []


@pytest.mark.parametrize(
    ("custom", "law"),
    [
        (First, "order of events"),
        (MeanOfMeans, "not the state of the whole"),
        (MeanOfMeans, "not associative"),
        (Difference, "not commutative"),
        (InPlace, "InPlace.reduce: it failed with ValueError"),
        (InPlaceAtLast, "InPlaceAtLast.finish: it failed with ValueError"),
        (ByNumberOfRows, "not those from single events"),
        (OneMore, "does not reduce to itself"),
        (Complex, "does not survive being stored"),
        (EmptyWindows, "windows beside them"),
        (Chance, "a clock or chance"),
        (Infinite, "NaN or infinite"),
        (Failing, "Failing.finish: it failed with ZeroDivisionError('oh')"),
        (WrongShape, "WrongShape.reduce: 'total' has the shape"),
        (Forgetful, "Forgetful.reduce: it returned no 'n'"),
        (NoPair, "NoPair.finish: it returned no pair"),
    ],
)
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_each_law_has_one_that_breaks_it(custom, law):
    assert any(law in sentence for sentence in broken(custom)), broken(custom)
