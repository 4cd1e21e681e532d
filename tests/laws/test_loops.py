"""The compiled loops say what NumPy says, and no bytes can lead them astray."""

import os
import shutil
import sysconfig
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from feilun.aggregation import codec, compiled, fold_all, folding, make_families
from feilun.aggregation.stored import FamilyReader
from feilun.aggregation.tiles import Tiles
from feilun.errors import CorruptData
from feilun.testing.families import blobs_of, events_for, feature_lists
from feilun.testing.strategies import features, read_moments

examples = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
needed = pytest.mark.skipif(compiled.loops is None, reason="there is no C compiler")


@contextmanager
def by_numpy():
    """Do without the compiled loops."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (codec, folding):
            patch.setattr(module, "loops", None)
        yield


def test_where_there_is_a_compiler_there_are_loops():
    headers = Path(sysconfig.get_path("include"), "Python.h")
    can_compile = shutil.which("cc") is not None and headers.is_file()
    assert compiled.loops is not None or not can_compile or os.environ.get("FEILUN_COMPILED") == "0"


def family_of(of):
    (family,) = make_families(dict.fromkeys(feature.fold for feature in of))
    return family


@needed
@examples
@given(st.data())
def test_blobs_are_the_same_to_the_byte(data):
    of = data.draw(feature_lists())
    family, events = family_of(of), data.draw(events_for(of))
    stored = blobs_of(family, events)
    keys, blobs = [key for key, _ in stored], [blob for _, blob in stored]
    found = codec.decode(family, [*keys, b"absent"], [*blobs, None])
    with by_numpy():
        assert blobs_of(family, events) == stored
        expected = codec.decode(family, [*keys, b"absent"], [*blobs, None])
    for mine, other in zip(found, expected, strict=True):
        assert mine.offsets.tolist() == other.offsets.tolist()
        assert mine.rows.dtype == other.rows.dtype
        assert repr(mine.rows.tolist()) == repr(other.rows.tolist())  # NaN is like NaN


@needed
@examples
@given(st.data())
def test_merging_is_the_same_to_the_bit(data):
    of = data.draw(features(data.draw(st.sampled_from(["count", "sum", "mean", "min", "max"]))))
    family, events = family_of([of]), data.draw(events_for([of]))
    (plan,) = family.plans
    half = np.array(data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events))))
    (whole,) = fold_all([plan], events)
    parts = [
        spread(plan, fold_all([plan], events.take(chosen))[0], whole.keys)
        for chosen in (half.astype(np.bool_), ~half.astype(np.bool_))
    ]
    assume(plan.merges is not None)
    merged = folding.merge(plan, *parts)
    with by_numpy():
        expected = folding.merge(plan, *parts)
    assert merged.offsets.tolist() == expected.offsets.tolist()
    assert merged.rows.tobytes() == expected.rows.tobytes()


def spread(plan, tiles, keys):
    """The same tiles among the keys of others, in one list with them."""
    merged = folding.merge(plan, tiles, Tiles(keys, np.zeros(len(keys) + 1, int), tiles.rows[:0]))
    return Tiles(keys, merged.offsets, merged.rows)


@needed
@examples
@given(st.data())
def test_damage_is_found_and_forgeries_harm_nobody(data):
    """Bytes that pass the checksum but are not what was stored give an error or some values."""
    of = data.draw(feature_lists())
    family, events = family_of(of), data.draw(events_for(of))
    as_of = data.draw(read_moments(of[0], events))
    stored = blobs_of(family, events)
    assume(stored)
    _, blob = data.draw(st.sampled_from(stored))
    reader = FamilyReader(family, of)
    words = np.frombuffer(blob, np.int64).copy()
    place = data.draw(st.integers(0, len(words) - 1))
    words[place] ^= data.draw(st.integers(1, 2**62))
    for use in uses(family, reader, words.tobytes(), as_of):
        with pytest.raises(CorruptData):
            use()
    cut = words[: data.draw(st.integers(2, len(words)))].view(np.uint64)
    cut[1:2] -= np.add.reduce(cut)  # now the checksum holds
    for use in uses(family, reader, cut.tobytes(), as_of):
        with suppress(CorruptData, OverflowError):
            use()


def uses(family, reader, blob, as_of):
    return (
        lambda: codec.decode(family, [b"key"], [blob]),
        lambda: reader.one(blob, as_of, {}),
        lambda: reader.many([b"key", b"other"], [blob, None], as_of),
    )
