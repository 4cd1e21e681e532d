"""Entities, and the views that group features by them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, ClassVar

from feilun.definitions.features import Feature
from feilun.definitions.sites import Site, calling_site, snake_case


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that features describe: a customer, a product.

    Parameters
    ----------
    name : str
        The column that identifies it; events that speak about it have a field of this name.
    dtype : type
        ``int`` or ``str``.
    description : str
        For people.

    Examples
    --------
    >>> Entity("user_id", int, description="A customer of the shop")
    Entity(name='user_id', dtype=<class 'int'>, description='A customer of the shop')
    """

    name: str
    dtype: type[int] | type[str]
    description: str = ""
    site: Site = field(default_factory=calling_site, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ViewDeclaration:
    """What the class statement of a view says beside its features."""

    name: str
    entities: tuple[Entity, ...]
    owner: str
    description: str
    site: Site


class FeatureView:
    """The base of every feature view: its attributes are the features of one entity.

    Class keywords are ``entity`` (one, several together as a tuple, or none: one row for the whole
    project), ``owner`` and ``description`` (by default, the docstring).
    """

    __feilun__: ClassVar[ViewDeclaration]

    def __init_subclass__(
        cls,
        *,
        entity: Entity | tuple[Entity, ...] = (),
        owner: str = "",
        description: str = "",
    ) -> None:
        cls.__feilun__ = ViewDeclaration(
            name=snake_case(cls.__name__),
            entities=entity if isinstance(entity, tuple) else (entity,),
            owner=owner,
            description=description or inspect.cleandoc(cls.__dict__.get("__doc__") or ""),
            site=calling_site(),
        )


def has_view(feature: Feature[Any]) -> bool:
    """Return whether a feature is an attribute of a view."""
    return feature.view is not None and issubclass(feature.view, FeatureView)
