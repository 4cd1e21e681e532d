"""What is said about mistakes with encoders of texts."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mistakes import capability, cases, check, model, view


def encoder(name: str = "bge", dim: int = 4, digest: str = "a" * 64, into: str = "text") -> str:
    return f"{into} = fl.encoder({name!r}, dim={dim}, digest={digest!r})\n"


ENCODERS = {
    "an encoder of a number": (
        encoder() + model(features="[text(Profile.orders)]"),
        r"encodes a text, and Profile.orders is a number",
        "fl.request.param",
    ),
    "an encoder of a list": (
        encoder() + model(features="[text(Profile.colors)]"),
        "is a list",
        "one text",
    ),
    "an encoder of nothing": (
        encoder() + model(features="[text('red')]"),
        "encodes a text, and 'red' is 'red'",
        "one text",
    ),
    "an encoder without a version": (
        encoder(digest="latest") + model(features="[text(Profile.color)]"),
        "digest='latest', which is no version",
        "feilun encoder add",
    ),
    "an encoder without a size": (
        encoder(dim=0) + model(features="[text(Profile.color)]"),
        "dim=0",
        "at most",
    ),
    "an encoder without a name": (
        encoder(name="BGE small") + model(features="[text(Profile.color)]"),
        "'BGE small' is not a name",
        "lower-case",
    ),
    "one name for two encoders": (
        encoder()
        + encoder(digest="b" * 64, into="other")
        + model(features="[text(Profile.color), other(Profile.color)]"),
        "another version than elsewhere",
        "another name",
    ),
    "the vector of a text in a view": (
        encoder() + view("text(Profile.color)"),
        "no feature of a view",
        "model",
    ),
    "the likeness of a text in a view": (
        encoder() + view("fl.cosine(text(Profile.color), Profile.look)"),
        "computes from its own features",
        "model",
    ),
    "the cosine of vectors of other sizes": (
        encoder() + model(features="[fl.cosine(text(Profile.color), Profile.look)]"),
        "a vector of 4 with a vector of 2",
        "one length",
    ),
    "a fallback that is the vector of a text": (
        encoder() + capability(fallback="text(Profile.color)"),
        "is a vector",
        "",
    ),
    "a fallback of a parameter that is not there": (
        encoder(dim=2)
        + capability(
            parameters="scored: fl.Scored, user_id: int",
            fallback="fl.cosine(text(fl.request.param('query', str)), Thing.look)",
        ).replace(
            "@fl",
            "class Thing(fl.FeatureView, entity=item):\n    look = fl.last(Order.look)\n\n@fl",
            1,
        ),
        "'query' is a feature, and the request does not have it",
        "query: str",
    ),
}


@pytest.mark.parametrize(("snippet", "what", "fix"), cases(ENCODERS))
def test_each_mistake_is_one_problem(tmp_path, snippet, what, fix):
    check(tmp_path, snippet, what, fix)
