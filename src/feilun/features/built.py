"""Which tiles the store holds: what it says of itself beside the tiles.

Under one reserved key the engine keeps, in the transaction that folds, every family of tiles: its
folds as they were when it was made, and how far it was built. A family under construction grows
beside the others, and is read only when it has caught up with them. A store that begins with
nothing while the log has records is read only when it has caught up with those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from feilun.aggregation import Family, Plan, make_families
from feilun.definitions.specs import FeatureSpec, FoldSpec, Project, longest
from feilun.errors import CorruptData
from feilun.features.earlier import decode_class, encode_class, has_class, obstacle, today
from feilun.ports.online_store import StoreSnapshot

KEY = b"built"
MENDED = b"mended"
"""Both are shorter than a family's id, so that no tile has them."""

_VERSION = 2


class ListDamaged(CorruptData):
    """What the store says of its tiles cannot be read, so that none of them can."""


@dataclass(frozen=True)
class Holding:
    """A family in the store.

    ``offset`` is None where the family holds every event below the store's mark, and moves with
    it; else it is under construction, and holds the events below ``offset``. ``lacking`` are the
    fingerprints of folds that lack events: the project could not fold them when those came.
    """

    family: Family
    offset: int | None = None
    lacking: frozenset[bytes] = frozenset()

    def has(self, fold: FoldSpec) -> bool:
        """Whether it has the fold, with tiles that are kept as long as the fold needs them."""
        return fold.fingerprint not in self.lacking and any(
            fold in plan.folds and _lasts(plan.retention, fold.retention)
            for plan in self.family.plans
        )


@dataclass(frozen=True)
class Built:
    """The families of a store.

    ``dropped`` are ids of families whose blobs are still there. ``until`` is where the log ended
    when the store began with nothing: no family is read before the mark is there; 0 from then on.
    ``features`` are those of the project as they can be read: as they are defined or, where that is
    under construction, as they were before.
    """

    holdings: tuple[Holding, ...] = ()
    dropped: tuple[bytes, ...] = ()
    until: int = 0
    features: tuple[FeatureSpec, ...] = ()

    def family_of(self, feature: FeatureSpec) -> Family | None:
        """Return the family from which a feature can be read; None if there is none yet."""
        if self.until:
            return None
        for holding in self.holdings:
            if holding.offset is None and holding.has(feature.fold):
                return holding.family
        return None

    def current(self, feature: FeatureSpec) -> FeatureSpec | None:
        """Return a feature as it can be read: as it is, or as it was; None if there is neither."""
        if self.family_of(feature) is not None:
            return feature
        for known in self.features:
            if known.address == feature.address:
                alike = _shape(known) == _shape(feature)
                return known if alike and self.family_of(known) is not None else None
        return None

    def without_what_is_gone(self, project: Project) -> Built:
        """Return the same, with what the project cannot fold marked: it lacks what comes now.

        It is not read again, though its event or field should come back. A field that was required
        and may be absent by now is such a one where others share its rows.
        """
        return replace(self, holdings=tuple(_marked(each, project) for each in self.holdings))

    def arranged(
        self,
        folds: Sequence[FoldSpec],
        mark: int,
        end: int,
        features: Sequence[FeatureSpec] = (),
    ) -> Built:
        """Return what the store is to hold for a project, at offset ``mark``.

        Families stay as they are while they are of use; what is missing is begun beside them.

        Parameters
        ----------
        folds : sequence of FoldSpec
            What is to be folded.
        mark : int
            How far the store is.
        end : int
            Where the log ends now.
        features : sequence of FeatureSpec
            The project's; what can be read of them stays until they are built.
        """
        missing = [fold for fold in folds if not any(h.has(fold) for h in self.holdings)]
        begun = tuple(
            Holding(family, 0 if mark else None)
            for family in make_families(missing)
            if family.id not in self.dropped  # its old blobs must be gone first
        )
        whole = replace(self, holdings=self.holdings + begun, until=0)
        readable = whole._readable(features)
        wanted = longest((*folds, *(feature.fold for feature in readable)))
        kept = tuple(holding for holding in self.holdings if self._is_of_use(holding, wanted))
        gone = {h.family.id for h in self.holdings} - {h.family.id for h in kept}
        until = self.until if mark or self.holdings else end
        return Built(kept + begun, tuple(sorted({*self.dropped, *gone})), until, readable)

    def _readable(self, features: Iterable[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        return tuple(each for each in map(self.current, features) if each is not None)

    def _is_of_use(self, holding: Holding, folds: Iterable[FoldSpec]) -> bool:
        """Whether some fold of the project would lose the tiles that it is read from."""
        others = [h for h in self.holdings if h is not holding and h.offset is None]
        return any(
            fold in holding.family.folds
            and fold.fingerprint not in holding.lacking
            and not any(other.has(fold) for other in others)
            for fold in folds
        )


class _Stored(msgspec.Struct, array_like=True):
    version: int
    families: list[tuple[int | None, list[list[FoldSpec]]]]
    dropped: list[bytes]
    until: int = 0
    features: list[FeatureSpec] = []
    lacking: dict[bytes, list[bytes]] = {}


_encoder = msgspec.msgpack.Encoder(enc_hook=encode_class)
_decoder = msgspec.msgpack.Decoder(_Stored, dec_hook=decode_class)


def encode_built(built: Built) -> bytes:
    """Return the bytes to store under ``KEY``."""
    families = [
        (holding.offset, [list(plan.folds) for plan in holding.family.plans])
        for holding in built.holdings
    ]
    lacking = {h.family.id: sorted(h.lacking) for h in built.holdings if h.lacking}
    dropped, features = list(built.dropped), list(built.features)
    return _encoder.encode(_Stored(_VERSION, families, dropped, built.until, features, lacking))


def decode_built(raw: bytes | None, project: Project) -> Built:
    """Return what was stored under ``KEY``; no family where nothing was.

    Parameters
    ----------
    raw : bytes or None
        What was stored.
    project : Project
        The definitions, as they are now. A family is as good as dropped if the code of an
        aggregation is not theirs any more.

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
    holdings, dropped = [], list(stored.dropped)
    for offset, plans in stored.families:
        folds = [[today(fold, project) for fold in plan] for plan in plans]
        family = Family(tuple(Plan(tuple(plan)) for plan in folds))
        if any(_is_lost(plan, project) for plan in folds):
            dropped.append(family.id)
        else:
            lacking = frozenset(stored.lacking.get(family.id, ()))
            holdings.append(Holding(family, offset, lacking))
    own = set(project.folds)
    features = [replace(each, fold=today(each.fold, project)) for each in stored.features]
    usable = [f for f in features if f.fold in own or not obstacle(f.fold, project)]
    return Built(tuple(holdings), tuple(dropped), stored.until, tuple(usable))


def encode_mended(count: int) -> bytes:
    """Return the bytes to store under ``MENDED``: how many damaged blobs were made anew."""
    return (count % 2**64).to_bytes(8, "big")


def mended(snapshot: StoreSnapshot) -> int:
    """Return how many damaged blobs were made anew since the store was empty."""
    return int.from_bytes(snapshot.get(MENDED) or b"", "big")


def _shape(feature: FeatureSpec) -> tuple[object, ...]:
    """Return what whoever reads a feature counts on, whatever it means."""
    return feature.keys, feature.dtype, feature.is_list, feature.width


def _marked(holding: Holding, project: Project) -> Holding:
    own = set(project.folds)
    gone = {f.fingerprint for f in holding.family.folds if f not in own and obstacle(f, project)}
    for plan in holding.family.plans:
        if plan.of_many_fields:  # each was required once: now fillers stand for one that is not
            gone |= {f.fingerprint for f in plan.folds if f.field is not None and not f.required}
    return replace(holding, lacking=holding.lacking | gone) if gone else holding


def _is_lost(folds: Sequence[FoldSpec], project: Project) -> bool:
    """Whether the project cannot fold on what the tiles of a plan hold: it has other code."""
    return any(fold.custom is not None and not has_class(fold.custom, project) for fold in folds)


def _lasts(kept: int | None, needed: int | None) -> bool:
    """Whether tiles that are kept for ``kept`` µs (None: for ever) reach ``needed`` µs back."""
    return kept is None or (needed is not None and needed <= kept)


def _corrupt(why: str) -> ListDamaged:
    return ListDamaged(
        f"The store's list of its tiles cannot be read: {why}.",
        "Tiles are derived: rebuild them from the log.",
    )
