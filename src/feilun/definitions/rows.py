"""Rows: what a training function is given, and what a capability's function is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from feilun.definitions.features import Feature
from feilun.errors import FeilunError, InputError, Unavailable, UnknownName

if TYPE_CHECKING:  # importing feilun stays light; a capability is made of what is here
    import numpy as np
    import numpy.typing as npt

    from feilun.definitions.capabilities import Capability
    from feilun.definitions.models import Model

Reply = TypeVar("Reply")
Default = TypeVar("Default")


class _Missing(Enum):
    """Says that no default was given: None may be one."""

    MISSING = "missing"


class Draws(Protocol):
    """Chooses which of the ranked items are shown, where the capability explores."""

    def choose(self, ranked: Sequence[Any], k: int) -> list[Any]:
        """Return ``k`` of the items, which are given best first."""
        ...


class Values(Protocol):
    """A column: values, and a mask that says which of them are there."""

    @property
    def values(self) -> npt.NDArray[Any]:
        """Values; where ``present`` is False, the default or nothing of meaning."""
        ...

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which of the values come from events."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Examples to train on or to judge by, in the order of their requests.

    Attributes
    ----------
    features : tuple of str
        The address of each column; those of a vector are ``view:feature[0]`` and so on.
    x : float32 array, rows by features
        NaN where a feature is missing. A text feature is the index of its category.
    y : float64 array, rows
        The outcomes.
    groups : int64 array, requests
        How many rows each request has, in order.
    as_of : int64 array, requests
        The moment of each request, µs UTC; ascending.
    categorical : tuple of int
        The columns of ``x`` that hold categories.
    """

    features: tuple[str, ...]
    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float64]
    groups: npt.NDArray[np.int64]
    as_of: npt.NDArray[np.int64]
    categorical: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The candidates of one request with their scores and features.

    Attributes
    ----------
    items : sequence
        The candidates, each once, in the order in which they were found.
    scores : float64 array
        One a candidate; higher is better.
    columns : mapping
        Feature address to its column, of the length of ``items``, or of length 1 where the
        feature does not depend on the item.
    fallback : bool
        True if no model scored them, but the capability's fallback.
    draws : Draws or None
        What :meth:`top` asks where the capability explores.
    others : mapping
        By name of each model that also scores, its scores, or why there are none.
    replies : mapping
        By path of each capability that was asked, its reply, or why there is none.
    """

    items: Sequence[Any]
    scores: npt.NDArray[np.float64]
    columns: Mapping[str, Values]
    fallback: bool = False
    draws: Draws | None = None
    others: Mapping[str, npt.NDArray[np.float64] | FeilunError] = field(
        default_factory=dict[str, Any]
    )
    replies: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.items)

    def __getitem__(self, feature: Feature[Any]) -> npt.NDArray[Any]:
        """Return the values of a feature, one a candidate; of a vector, a row a candidate.

        Raises
        ------
        UnknownName
            If neither the model nor ``reads=`` names the feature.
        """
        return self._spread(self._column(feature).values)

    def present(self, feature: Feature[Any]) -> npt.NDArray[np.bool_]:
        """Return for each candidate whether the feature has a value of its own."""
        return self._spread(self._column(feature).present)

    def by(self, model: Model, default: float | None = None) -> npt.NDArray[np.float64]:
        """Return what another model gives the candidates: one number each, higher is better.

        Parameters
        ----------
        model : Model
            One of the capability's ``also=``.
        default : float, optional
            What every candidate gets where no version scored them; the answer says so.

        Raises
        ------
        Unavailable
            If no version scored them and there is no default: then the request is refused.
        UnknownName
            If ``also=`` does not name the model.
        """
        if model.name not in self.others:
            raise UnknownName(
                f"The model {model.name} did not score this request.",
                "Name it in the capability's also=.",
            )
        scores = self.others[model.name]
        if not isinstance(scores, FeilunError):
            return scores
        if default is None:
            raise scores
        import numpy as np

        return np.full(len(self.items), default, np.float64)

    @overload
    def reply(self, capability: Capability[..., Reply]) -> Reply: ...

    @overload
    def reply(self, capability: Capability[..., Reply], default: Default) -> Reply | Default: ...

    def reply(self, capability: Capability[..., Any], default: Any = _Missing.MISSING) -> Any:
        """Return what another capability replied about all candidates, :meth:`where` or not.

        Parameters
        ----------
        capability : Capability
            One of the capability's ``asks=``.
        default : object, optional
            What stands in where it could not answer; this answer says so.

        Raises
        ------
        Unavailable
            If it could not answer and there is no default: then the request is refused.
        UnknownName
            If ``asks=`` does not name the capability.
        """
        if capability.path not in self.replies:
            raise UnknownName(
                f"{capability.path} was not asked for this request.",
                "Name it in the capability's asks=.",
            )
        reply = self.replies[capability.path]
        if not isinstance(reply, FeilunError):
            return reply
        if default is not _Missing.MISSING:
            return default
        raise Unavailable(
            f"{capability.path}, which was asked, did not answer: {reply.message}",
            "Give scored.reply() a default, to answer without it.",
        ) from reply

    def where(self, mask: npt.NDArray[np.bool_]) -> Scored:
        """Return the candidates for which ``mask`` is true."""
        if len(mask) != len(self.items):
            raise InputError(
                f"where() got a mask of {len(mask)} for {len(self.items)} candidates.",
                "Make it from scored[…] or from scored.scores.",
            )
        return replace(
            self,
            items=[item for item, keep in zip(self.items, mask, strict=True) if keep],
            scores=self.scores[mask],
            columns={
                address: column if len(column.values) == 1 else _Kept(column, mask)
                for address, column in self.columns.items()
            },
            others={
                name: scores if isinstance(scores, FeilunError) else scores[mask]
                for name, scores in self.others.items()
            },
        )

    def top(self, k: int) -> list[Any]:
        """Return the ``k`` best items, best first; equal scores keep the candidates' order.

        Where the capability explores, now and then other ones, in another order.
        """
        if k < 0:
            raise InputError(f"top() got k={k}.", "Ask for 0 or more.")
        best = (-self.scores).argsort(kind="stable")
        if self.draws is not None:
            return self.draws.choose([self.items[index] for index in best], k)
        return [self.items[index] for index in best[:k]]

    def rescored(self, scores: npt.NDArray[np.float64]) -> Scored:
        """Return the candidates with other scores, for :meth:`top` to rank by."""
        if len(scores) != len(self.items):
            raise InputError(
                f"rescored() got {len(scores)} scores for {len(self.items)} candidates.",
                "Make them from scored.scores and scored.by(…).",
            )
        return replace(self, scores=scores)

    def _column(self, feature: Feature[Any]) -> Values:
        try:
            return self.columns[feature.address]
        except KeyError:
            raise UnknownName(
                f"{feature!r} was not read for this request.",
                "Name it in the model's features or in the capability's reads=.",
            ) from None

    def _spread(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Give every candidate its value where one value stands for all."""
        return array if len(array) == len(self.items) else array.repeat(len(self.items), axis=0)


class _Kept:
    """A column with only those values that a mask keeps."""

    __slots__ = ("present", "values")

    def __init__(self, column: Values, mask: npt.NDArray[np.bool_]) -> None:
        self.values: npt.NDArray[Any] = column.values[mask]
        self.present: npt.NDArray[np.bool_] = column.present[mask]
