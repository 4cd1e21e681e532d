"""Names and texts that end strings, docstrings and comments, if they are let."""

from typing import Literal, TypedDict

import feilun as fl

user = fl.Entity("user_id", int)
item = fl.Entity("list", int)


class Click(fl.Event):
    '''""" + boom() + """ \\N{bad} \\x */ boom(); /* \u2028 \x1b[2J ends in a quote"'''

    user_id: fl.Field[int]
    list: fl.Field[int]
    time: fl.Field[int | None]
    id: fl.Field[str | None]


class Items(fl.FeatureView, entity=item):
    n = fl.count(Click)


class Import(fl.FeatureView, entity=user):
    """*/ boom(); /*"""

    clicks = fl.count(Click)


@fl.model(features=[Items.n], label=fl.outcome(Click, within="1h"), metric="auc")
def ranker(data): ...


Odd = TypedDict(
    "Odd",
    {
        "class": int,
        "a-b": str,
        "int": int,
        "__x": float,
        "*/": bool,
        '"]; boom(); //': Literal['"""', "*/", "\\"],
    },
)


@fl.capability("/api/list", model=ranker, fallback=Items.n)
def anything(scored: fl.Scored, user_id: int, list: list[int], self: int = 1) -> Odd:
    """\\"""
    return {}


@fl.capability("/api/constructor", model=ranker, fallback=Items.n)
def constructor(scored: fl.Scored, user_id: int, list: list[int]) -> dict[str, Odd]:
    return {}


@fl.capability("/api/track_click", model=ranker, fallback=Items.n)
def track_click(scored: fl.Scored, user_id: int, list: list[int]) -> int:
    return 1
