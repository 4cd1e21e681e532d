"""Custom aggregations: a project's own, in NumPy, under the same laws as the built-in ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:  # importing feilun stays light
    import numpy as np
    import numpy.typing as npt

    Columns = Mapping[str, npt.NDArray[Any]]
    Int64 = npt.NDArray[np.int64]


class Aggregation:
    """The base of a custom aggregation, used as ``fl.custom(Harmonic, Order.price, window="7d")``.

    Its state is a row of numbers. One event is a row too; rows of one tile are reduced to one, and
    the rows of a window finish as its value. The state must be a function of the *multiset* of
    events: ``reduce`` gives the same whatever the order of the rows and however they were parted
    before, and one row reduces to itself. ``feilun check`` tries this, and refuses what breaks it.

    The methods are called on the class, with whole arrays; they change nothing that they are given
    but ``rows`` in ``lift``, and know nothing but their arguments: no clock, no file, no chance.

    Attributes
    ----------
    columns : mapping of str to str
        The state: names and NumPy types, little-endian and of fixed size, such as ``"<i8"``,
        ``"<f8"``, ``"?"``.
    dtype : {"int", "float", "bool"}
        The type of the value.

    Examples
    --------
    The harmonic mean, ``n / Σ 1/x``, of numbers above zero:

    >>> import numpy as np
    >>> class Harmonic(Aggregation):
    ...     columns = {"n": "<i8", "total": "<f8"}
    ...     dtype = "float"
    ...
    ...     @staticmethod
    ...     def lift(rows, time, values):
    ...         rows["n"][:] = values > 0
    ...         rows["total"][:] = 1 / np.where(values > 0, values, np.inf)
    ...
    ...     @staticmethod
    ...     def reduce(columns, starts):
    ...         return {name: np.add.reduceat(rows, starts) for name, rows in columns.items()}
    ...
    ...     @staticmethod
    ...     def finish(columns, offsets, as_of):
    ...         filled = offsets[:-1] < offsets[1:]  # the windows that have rows
    ...         merged = Harmonic.reduce(columns, offsets[:-1][filled])
    ...         n, total = np.zeros(len(filled)), np.ones(len(filled))
    ...         n[filled], total[filled] = merged["n"], merged["total"]
    ...         return n / np.where(n, total, 1), n > 0
    >>> rows = {"n": np.array([1, 1]), "total": np.array([1 / 2, 1 / 6])}
    >>> values, present = Harmonic.finish(rows, np.array([0, 2, 2]), 0)
    >>> values.tolist(), present.tolist()
    ([3.0, 0.0], [True, False])
    """

    columns: ClassVar[Mapping[str, str]]
    dtype: ClassVar[Literal["int", "float", "bool"]]

    @staticmethod
    def lift(
        rows: dict[str, npt.NDArray[Any]], time: Int64, values: npt.NDArray[Any] | None
    ) -> None:
        """Fill in the rows of single events.

        Parameters
        ----------
        rows : dict of str to array
            The columns, to be filled in place.
        time : int64 array
            When each event happened, µs UTC.
        values : int64, float64 or bool array, or None
            The field's values, none of them absent; None where whole events are aggregated.
        """
        raise NotImplementedError

    @staticmethod
    def reduce(columns: Columns, starts: Int64) -> dict[str, npt.NDArray[Any]]:
        """Merge runs of rows: run i begins at ``starts[i]`` and ends where the next one begins.

        No run is empty. Returns the columns of one row a run.
        """
        raise NotImplementedError

    @staticmethod
    def finish(
        columns: Columns, offsets: Int64, as_of: int | Int64
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the values of windows, and a mask of those that have one.

        Window i has the rows from ``offsets[i]`` to ``offsets[i + 1]``, maybe none; ``as_of`` is
        the moment of the read, or one for each window, µs UTC. ``values`` are int64, float64 or
        bool, as ``dtype`` says; where the mask is False they mean nothing.
        """
        raise NotImplementedError
