"""What a read of a list of features needs of the store: which blobs, and who reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feilun.aggregation import Family, encode_value, encode_values
from feilun.aggregation.stored import FamilyReader
from feilun.definitions.specs import EntitySpec, ExpressionSpec, FeatureSpec
from feilun.errors import InputError
from feilun.features.built import Built

Scalar = int | str


class ReadGroup:
    """Features that are read from one family.

    Parameters
    ----------
    family : Family
        Where they are stored.
    features : list of FeatureSpec
        What is read.
    """

    def __init__(self, family: Family, features: list[FeatureSpec]) -> None:
        self.family = family
        self.features = features
        self.reader = FamilyReader(family, features)
        self._id = family.id
        self._names = [entity.name for entity in family.keys]
        self._keys = list(zip(self._names, family.keys, strict=True))

    def store_key(self, keys: Mapping[str, Scalar]) -> bytes:
        """Return where the tiles of these values of the entities lie.

        Raises
        ------
        InputError
            If one is not given or has the wrong type.
        """
        return _encoded(self._id, self._keys, keys)

    def store_keys(
        self, keys: Mapping[str, Scalar], item: str | None, items: Sequence[Scalar]
    ) -> list[bytes]:
        """Return where the tiles of each item lie; one place where the item does not count.

        ``items`` are values of the entity ``item``. Raises as `store_key` does.
        """
        if item not in self._names:
            return [self.store_key(keys)]
        at = self._names.index(item)
        before = _encoded(self._id, self._keys[:at], keys)
        after = _encoded(b"", self._keys[at + 1 :], keys)
        return encode_values(self.family.keys[at], items, before, after)


def _encoded(
    begin: bytes, entities: Sequence[tuple[str, EntitySpec]], keys: Mapping[str, Scalar]
) -> bytes:
    for name, entity in entities:
        if name not in keys:
            raise InputError(f"The key {name} is missing.", f"Give a value for {name}.")
        begin += encode_value(entity, keys[name])
    return begin


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What a list of features needs, worked out once for the families that there are.

    Attributes
    ----------
    features
        The list.
    defaults : dict
        By address what stands for a missing value; see `stand_in`.
    nothing : dict
        By address None.
    groups : list of ReadGroup
        What is read.
    unbuilt : list of FeatureSpec
        What cannot be read yet.
    current
        The list, with what a feature meant before in the place of what cannot be read yet.
    """

    features: tuple[FeatureSpec, ...]
    defaults: dict[str, Any]
    nothing: dict[str, Any]
    groups: list[ReadGroup]
    unbuilt: list[FeatureSpec]
    current: tuple[FeatureSpec, ...]


def stand_in(feature: FeatureSpec | ExpressionSpec) -> Any:
    """Return what stands for a missing value: the default, or None; a list of nothing is empty."""
    return list(feature.default or ()) if feature.is_list else feature.default


def make_plan(features: tuple[FeatureSpec, ...], built: Built) -> ReadPlan:
    """Work out what features need of a store that holds ``built``."""
    families: dict[Family, list[FeatureSpec]] = {}
    unbuilt = []
    for feature in features:
        family = built.family_of(feature)
        if family is None:
            unbuilt.append(feature)
        else:
            families.setdefault(family, []).append(feature)
    defaults = {feature.address: stand_in(feature) for feature in features}
    return ReadPlan(
        features=features,
        defaults=defaults,
        nothing=dict.fromkeys(defaults),
        groups=[ReadGroup(family, some) for family, some in families.items()],
        unbuilt=unbuilt,
        current=tuple(built.current(f) or f for f in features) if unbuilt else features,
    )
