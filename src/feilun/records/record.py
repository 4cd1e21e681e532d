"""The record: one thing that happened, as the log keeps it.

A record is a MessagePack array, so its fields keep their places for ever: new ones come at the
end with a default. ``docs/formats.md`` documents the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from feilun.records.hashing import digests
from feilun.records.lists import distinct

FORMAT_VERSION = 1
_TIE_BYTES = 8

LATE = 1
"""Flag: its id partition was closed when it came; kept, never folded."""
IMPORTED = 2
"""Flag: history loaded in bulk; ``available`` says when it became known."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing that happened.

    Attributes
    ----------
    schema : str
        ``EventSpec.schema_id`` of an event, or a ``feilun.*`` name for what the system writes.
    source : str
        Who sent it: ids are unique within a source.
    id : str
        The sender's id, 1 to 64 characters.
    time : int
        Effective time, µs UTC: the client's time corrected by its clock's skew, never later than
        ``received``. Computed once, by the collector.
    received : int
        The collector's clock, µs UTC.
    client_time : int
        The time as the client gave it.
    available : int
        When it became known, µs UTC: ``received``, but for imported history.
    subject : str
        Whom it is about, as ``entity=value``; empty if nobody.
    digest : bytes
        16 bytes of BLAKE2b over what the client sent, without ``sent_at``.
    body : bytes
        MessagePack array of the fields, in the order of the schema.
    flags : int
        ``LATE``, ``IMPORTED``.
    """

    # gc=False: it holds no containers, so the garbage collector need not look at it.

    schema: str
    source: str
    id: str
    time: int
    received: int
    client_time: int
    available: int
    subject: str
    digest: bytes
    body: bytes
    flags: int = 0

    @property
    def tie(self) -> int:
        """Return 64 bits of (source, id), which order records of the same time."""
        return int.from_bytes(tie_digests([self.source], [self.id]), "big")


def tie_digests(sources: list[str], ids: list[str]) -> bytes:
    """Return the ties of names: BLAKE2b-64 of each ``source NUL id``, one after another."""
    if len(distinct(sources)) == 1:
        return digests(f"{sources[0]}\0".encode(), ids, _TIE_BYTES)
    return digests(b"", list(map("\0".join, zip(sources, ids, strict=True))), _TIE_BYTES)


class Prediction(msgspec.Struct, frozen=True, array_like=True):
    """The body of a ``feilun.prediction.1`` record: one answered request.

    ``keys`` are the request's entity values by name; ``item`` names the key that differs between
    the rows and ``items`` holds its values. ``vectors`` is the float32 matrix that was scored,
    row-major, ``len(items)`` rows by as many columns as the model had features; ``columns`` digests
    their addresses and meanings. ``scores`` is float64, empty where no model scored.
    ``answer`` holds the items of the reply, best first: an item's place is the position at which it
    was shown. ``request`` holds the parameters of the request that are features.

    ``arm`` says where the split put the request: ``champion``, ``challenger``, or ``fallback``
    where there was no version to assign; empty in records from before there were rollouts. What
    answered is ``version``, 0 for the fallback: a challenger that failed has another one.
    ``propensity`` is the probability of the arm, ``rollout`` the sequence of the rollout's entry,
    0 without one.

    ``exploration`` names how the list was drawn, empty where it was not. Then ``list_propensity``
    is the probability of exactly this answer, given the scores, and ``item_propensities`` (float64)
    that of each of its items at its place; NaN and empty where the function made another list than
    it drew.

    ``reply`` is the body that the caller got, for one who asks again; empty where nothing is kept
    of whom it is about.

    ``encoders`` holds the version of each encoder that texts went through to become columns.

    A body of a ``feilun.shadow.1`` record is the same, of a version that answered nobody: its arm
    is ``shadow``, its answer empty.
    """

    capability: str
    model: str
    version: int
    as_of: int
    folded_offset: int
    keys: dict[str, int | str]
    item: str
    items: Sequence[int | str]
    columns: str
    vectors: bytes
    scores: bytes
    answer: Sequence[int | str]
    degraded: list[str]
    request_id: str
    request: dict[str, int | float | str | bool] = {}
    arm: str = ""
    propensity: float = 1.0
    rollout: int = 0
    exploration: str = ""
    list_propensity: float = 1.0
    item_propensities: bytes = b""
    reply: bytes = b""
    encoders: dict[str, str] = {}

    @property
    def personalised(self) -> bool:
        """Return whether it knows whom it is about; else it cannot be joined with what followed."""
        return NOT_PERSONALISED not in self.degraded


PREDICTION_SCHEMA = "feilun.prediction.1"
SHADOW_SCHEMA = "feilun.shadow.1"
"""What a shadow scored has a schema of its own: nothing that reads answers can take it for one."""
NOT_PERSONALISED = "not_personalised"
"""Flag of an answer: nothing of its subject was read, and nothing is kept."""
RECOMPUTE = "recompute"
"""``Prediction.columns`` of vectors that are not whole: training computes them again."""
