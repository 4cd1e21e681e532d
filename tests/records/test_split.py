"""Laws of the split: whoever recomputes it finds the same, everybody has the same chance."""

import hashlib
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feilun.records.split import gets_challenger, place_of, unit_of

SALTS = st.text("0123456789abcdef", min_size=1, max_size=32)
UNITS = st.text(max_size=80).filter(lambda text: text.encode("utf-8", "ignore").decode() == text)
PERCENTS = st.floats(0, 100)
MANY = [f"user_id={number}" for number in range(20_000)]


def places(salt):
    return np.array([place_of(salt, unit) for unit in MANY])


@given(SALTS, UNITS)
def test_a_place_is_what_the_documentation_says(salt, unit):
    digest = hashlib.blake2b(salt.encode() + b"\0" + unit.encode(), digest_size=8).hexdigest()
    place = (int(digest, 16) // 2**11) / 2**53
    assert place_of(salt, unit) == place
    assert 0 <= place < 1


def test_every_process_finds_the_same():
    code = "from feilun.records.split import place_of; print(place_of('9f2c', '用户=飞轮').hex())"
    command = [sys.executable, "-c", code]
    found = [subprocess.run(command, capture_output=True, text=True, check=True,
                            env={"PYTHONHASHSEED": seed}).stdout for seed in "12"]  # fmt: skip
    assert {text.strip() for text in found} == {place_of("9f2c", "用户=飞轮").hex()}


@given(SALTS, UNITS, PERCENTS, PERCENTS)
def test_who_has_the_challenger_keeps_it_as_the_share_grows(salt, unit, a, b):
    less, more = sorted((a, b))
    assert gets_challenger(salt, unit, less) <= gets_challenger(salt, unit, more)


@given(SALTS, UNITS)
def test_nobody_has_it_at_0_and_everybody_at_100(salt, unit):
    assert not gets_challenger(salt, unit, 0)
    assert gets_challenger(salt, unit, 100)


def test_places_are_uniform():
    """Chi-square over 100 equal cells; for 99 degrees of freedom 160 is exceeded once in 10,000."""
    for salt in ("a", "b", "rollout-3"):
        counts, _ = np.histogram(places(salt), 100, (0, 1))
        assert ((counts - 200) ** 2 / 200).sum() < 160


def test_salts_choose_independently():
    """Chi-square over 10 x 10 cells of pairs of places under two salts; and who is in both 5 %."""
    first, second = places("one"), places("two")
    table, *_ = np.histogram2d(first, second, 10, ((0, 1), (0, 1)))
    assert ((table - 200) ** 2 / 200).sum() < 160
    both = ((first < 0.05) & (second < 0.05)).sum()
    assert abs(both - 50) < 4 * np.sqrt(50)  # 20,000 x 0.05 x 0.05


def test_the_unit_is_the_first_key_or_the_request():
    assert unit_of({"user_id": "七", "shop": 1}, "r") == "user_id=七"
    assert unit_of({}, "r") == "r"
