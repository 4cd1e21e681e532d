"""Capabilities: APIs that find candidates, have a model score them, and shape the reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from feilun.definitions.exploration import Epsilon, Thompson
from feilun.definitions.features import Feature
from feilun.definitions.models import Model
from feilun.definitions.rows import Scored
from feilun.definitions.sites import Site, function_site
from feilun.definitions.views import Entity

Request = ParamSpec("Request")
Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True, eq=False)
class Capability(Generic[Request, Reply]):
    """An API. Made by :func:`capability`; calling it calls the undecorated function."""

    function: Callable[Concatenate[Scored, Request], Reply]
    path: str
    model: Model
    candidates: Sequence[Feature[list[int]] | Feature[list[str]]]
    fallback: Feature[Any] | None
    reads: Sequence[Feature[Any]]
    item: Entity | None
    owner: str
    description: str
    explore: Epsilon | Thompson | None
    opt_out: Feature[bool] | Feature[int] | None
    also: Sequence[Model]
    asks: Sequence[Capability[..., Any]]

    @property
    def name(self) -> str:
        """The function's name, for messages; the API's own is in its path."""
        return getattr(self.function, "__name__", "?")

    @property
    def site(self) -> Site:
        """Where the function begins."""
        return function_site(self.function)

    def __call__(self, scored: Scored, *args: Request.args, **kwargs: Request.kwargs) -> Reply:
        """Shape the reply to a request, as the gateway does."""
        return self.function(scored, *args, **kwargs)


def capability(
    path: str,
    *,
    model: Model,
    candidates: Sequence[Feature[list[int]] | Feature[list[str]]] = (),
    fallback: Feature[Any] | None = None,
    reads: Sequence[Feature[Any]] = (),
    item: Entity | None = None,
    owner: str = "",
    description: str = "",
    explore: Epsilon | Thompson | None = None,
    opt_out: Feature[bool] | Feature[int] | None = None,
    also: Sequence[Model] = (),
    asks: Sequence[Capability[..., Any]] = (),
) -> Callable[
    [Callable[Concatenate[Scored, Request], Reply]],
    Capability[Request, Reply],
]:
    """Make an API of a function: its first parameter is ``scored``, the others are the request.

    Parameters
    ----------
    path : str
        ``/api/`` and a name in snake_case.
    model : Model
        What scores the candidates.
    candidates : sequence of list features
        Where the items to score come from, in this order, each item once. Without any, a parameter
        of the request that is a list of keys names them.
    fallback : Feature, optional
        What ranks while no model is in production: a list of items, best first, or a
        number an item.
    reads : sequence of features
        What the function looks at in ``scored[…]`` though the model does not.
    item : Entity, optional
        The key that differs between the rows; by default what candidates or the list parameter
        hold.
    owner, description : str
        For people; the description is by default the function's docstring.
    explore : Epsilon or Thompson, optional
        How ``scored.top(k)`` tries other lists than the best one: :func:`epsilon`,
        :func:`thompson`.
    opt_out : Feature, optional
        Of whom the request is about: where it is true, the answer is not personalised.
    also : sequence of models
        What else scores the same rows, for ``scored.by(model)``.
    asks : sequence of capabilities
        Whose replies the function looks at, in ``scored.reply(capability)``. Each is asked about
        the same rows, where they are what it scores, with the parameters that have the same names.
    """

    def decorate(
        function: Callable[Concatenate[Scored, Request], Reply],
    ) -> Capability[Request, Reply]:
        return Capability(
            function,
            path,
            model,
            candidates,
            fallback,
            reads,
            item,
            owner,
            description,
            explore,
            opt_out,
            also,
            asks,
        )

    return decorate
