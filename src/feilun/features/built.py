"""Which tiles the store holds: what it says of itself beside the tiles.

Under one reserved key the engine keeps, in the transaction that folds, every family of tiles: its
folds as they were when it was made, and how far it was built. A family under construction grows
beside the others, and is read only when it has caught up with them. A store that begins with
nothing while the log has records is read only when it has caught up with those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from feilun.aggregation import Family, Plan, make_families
from feilun.definitions.specs import ConditionSpec, CustomSpec, FeatureSpec, FoldSpec
from feilun.errors import CorruptData

KEY = b"built"
"""Shorter than a family's id, so that no tile has it."""

_VERSION = 2


class ListDamaged(CorruptData):
    """What the store says of its tiles cannot be read, so that none of them can."""


@dataclass(frozen=True)
class Holding:
    """A family in the store.

    ``offset`` is None where the family holds every event below the store's mark, and moves with
    it; else it is under construction, and holds the events below ``offset``.
    """

    family: Family
    offset: int | None = None

    def has(self, fold: FoldSpec) -> bool:
        """Whether it has the fold, with tiles that are kept as long as the fold needs them."""
        return any(
            fold in plan.folds and _lasts(plan.retention, fold.retention)
            for plan in self.family.plans
        )


@dataclass(frozen=True)
class Built:
    """The families of a store.

    ``dropped`` are ids of families whose blobs are still there. ``until`` is where the log ended
    when the store began with nothing: no family is read before the mark is there; 0 from then on.
    """

    holdings: tuple[Holding, ...] = ()
    dropped: tuple[bytes, ...] = ()
    until: int = 0

    def family_of(self, feature: FeatureSpec) -> Family | None:
        """Return the family from which a feature can be read; None if there is none yet."""
        if self.until:
            return None
        for holding in self.holdings:
            if holding.offset is None and holding.has(feature.fold):
                return holding.family
        return None

    def arranged(self, folds: Sequence[FoldSpec], mark: int, end: int) -> Built:
        """Return what the store is to hold for a project with ``folds``, at offset ``mark``.

        Families stay as they are while they are of use; what is missing is begun beside them.
        ``end`` is where the log ends now.
        """
        missing = [fold for fold in folds if not any(h.has(fold) for h in self.holdings)]
        begun = tuple(
            Holding(family, 0 if mark else None)
            for family in make_families(missing)
            if family.id not in self.dropped  # its old blobs must be gone first
        )
        kept = tuple(holding for holding in self.holdings if self._is_of_use(holding, folds))
        gone = {h.family.id for h in self.holdings} - {h.family.id for h in kept}
        until = self.until if mark or self.holdings else end
        return Built(kept + begun, tuple(sorted({*self.dropped, *gone})), until)

    def _is_of_use(self, holding: Holding, folds: Iterable[FoldSpec]) -> bool:
        """Whether some fold of the project would lose the tiles that it is read from."""
        others = [h for h in self.holdings if h is not holding and h.offset is None]
        return any(
            fold in holding.family.folds and not any(other.has(fold) for other in others)
            for fold in folds
        )


class _Stored(msgspec.Struct, array_like=True):
    version: int
    families: list[tuple[int | None, list[list[FoldSpec]]]]
    dropped: list[bytes]
    until: int = 0


def _encode_class(_: object) -> None:
    """Leave out the class of a custom aggregation: the project has it."""


def _decode_class(_kind: type, _value: object) -> type:
    return object


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_class)
_decoder = msgspec.msgpack.Decoder(_Stored, dec_hook=_decode_class)


def encode_built(built: Built) -> bytes:
    """Return the bytes to store under ``KEY``."""
    families = [
        (holding.offset, [list(plan.folds) for plan in holding.family.plans])
        for holding in built.holdings
    ]
    return _encoder.encode(_Stored(_VERSION, families, list(built.dropped), built.until))


def decode_built(raw: bytes | None, folds: Iterable[FoldSpec] = ()) -> Built:
    """Return what was stored under ``KEY``; no family where nothing was.

    Parameters
    ----------
    raw : bytes or None
        What was stored.
    folds : iterable of FoldSpec
        The project's. It has the classes of custom aggregations: a family with one that it does not
        have is as good as dropped. So is one in which a field that may be absent by now takes its
        events from others.

    Raises
    ------
    ListDamaged
        If the bytes are of another format.
    """
    if raw is None:
        return Built()
    try:
        stored = _decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise _corrupt(str(error)) from error
    if stored.version != _VERSION:
        raise _corrupt(f"it is of format {stored.version}, and this program knows {_VERSION}")
    own = {fold.fingerprint: fold for fold in folds}
    custom = {name: fold for name, fold in own.items() if fold.custom is not None}
    holdings, dropped = [], list(stored.dropped)
    for offset, plans in stored.families:
        family = Family(tuple(Plan(tuple(map(_restored, plan))) for plan in plans))
        brought = {fold.fingerprint for fold in family.folds if fold.custom is not None}
        if brought <= custom.keys() and not any(_takes_away(plan, own) for plan in family.plans):
            known = tuple(
                Plan(tuple(replace(f, custom=_class_of(f, custom)) for f in plan.folds))
                for plan in family.plans
            )
            holdings.append(Holding(Family(known), offset))
        else:
            dropped.append(family.id)
    return Built(tuple(holdings), tuple(dropped), stored.until)


def _takes_away(plan: Plan, own: Mapping[bytes, FoldSpec]) -> bool:
    """Whether some fold would lose events for lack of another's field, which was required once."""
    if len({fold.field for fold in plan.folds}) == 1:
        return False
    now = [own.get(fold.fingerprint, fold) for fold in plan.folds]
    return any(fold.field is not None and not fold.required for fold in now)


def _class_of(fold: FoldSpec, custom: Mapping[bytes, FoldSpec]) -> CustomSpec | None:
    return fold.custom and custom[fold.fingerprint].custom


def _restored(fold: FoldSpec) -> FoldSpec:
    return replace(fold, where=_condition(fold.where))


def _condition(condition: ConditionSpec | None) -> ConditionSpec | None:
    """Give a condition its tuples back, which the store has as lists."""
    if condition is None:
        return None
    value = tuple(condition.value) if isinstance(condition.value, list) else condition.value
    parts = tuple(part for part in map(_condition, condition.parts) if part is not None)
    return replace(condition, value=value, parts=parts)


def _lasts(kept: int | None, needed: int | None) -> bool:
    """Whether tiles that are kept for ``kept`` µs (None: for ever) reach ``needed`` µs back."""
    return kept is None or (needed is not None and needed <= kept)


def _corrupt(why: str) -> ListDamaged:
    return ListDamaged(
        f"The store's list of its tiles cannot be read: {why}.",
        "Tiles are derived: rebuild them from the log.",
    )
