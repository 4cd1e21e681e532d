"""A project's own aggregation is tried when the project is loaded, whoever loads it."""

import pytest

AGGREGATION = '''

import numpy as np


class Largest(fl.Aggregation):
    """The largest item."""

    columns = {"value": "<i8"}
    dtype = "int"

    @staticmethod
    def lift(rows, time, values):
        rows["value"][:] = values

    @staticmethod
    def reduce(columns, starts):
        return {"value": np.maximum.reduceat(columns["value"], starts)}

    @staticmethod
    def finish(columns, offsets, as_of):
        filled = offsets[:-1] < offsets[1:]
        largest = np.zeros(len(filled), np.int64)
        largest[filled] = Largest.reduce(columns, offsets[:-1][filled])["value"]
        return largest, filled


class Own(fl.FeatureView, entity=user):
    largest = fl.custom(Largest, Click.item_id, window="7d", default=0)
'''


def add(shop, text):
    path = shop.root / "shop.py"
    path.write_text(path.read_text() + text)


def test_a_lawful_aggregation_is_checked_and_read(shop):
    add(shop, AGGREGATION)
    found = shop.json("check")["features"]["own:largest"]
    assert (found["from"], found["window"]) == ("custom(Largest, click.item_id)", "7d")
    shop.run("rebuild")
    assert shop.json("features", "own:largest", "user_id=1")["features"] == {"own:largest": 0}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('np.maximum.reduceat(columns["value"], starts)}', 'columns["value"][starts]}'),
        ('{"value": np.maximum.reduceat(columns["value"], starts)}', '{"other": starts}'),
        ('{"value": np.maximum', '{"value": 1 + np.maximum'),
        ('rows["value"][:] = values', 'raise RuntimeError("no")'),
        (
            'largest[filled] = Largest.reduce(columns, offsets[:-1][filled])["value"]',
            'largest[:] = np.maximum.reduceat(np.append(columns["value"], 0), offsets[:-1])',
        ),
    ],
    ids=["order shows", "a column is missing", "merging shows", "it fails", "windows"],
)
def test_an_aggregation_that_breaks_a_law_is_refused(shop, before, after):
    assert before in AGGREGATION
    add(shop, AGGREGATION.replace(before, after))
    error = shop.run("check", code=2).stderr
    assert "own:largest: Largest breaks a law: " in error


def test_up_starts_nothing_with_an_aggregation_that_breaks_a_law(shop):
    add(shop, AGGREGATION.replace('{"value": np.maximum', '{"value": 1 + np.maximum'))
    assert "Largest breaks a law: " in shop.run("up", code=2).stderr
    assert not (shop.root / ".feilun").exists()
