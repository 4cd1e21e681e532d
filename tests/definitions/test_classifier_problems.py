"""What is said about mistakes with text classifiers."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mistakes import cases, check

from feilun.definitions.loading import load_project

NAMES = """
intent = fl.Entity("intent", str)
message = fl.Entity("message_id", str)
number = fl.Entity("number", int)


class Handled(fl.Event):
    message_id: fl.Field[str]
    intent: fl.Field[str]


class Counted(fl.Event):
    message_id: fl.Field[str]


"""


def classifier(
    classes: str = "intent",
    features: str = '[fl.request.param("text", str)]',
    label: str = "Handled",
    parameters: str = "message_id: str, text: str",
    *,
    of_api: bool = False,
) -> str:
    model, api = ("", "# HERE") if of_api else ("# HERE", "")
    return f"""{NAMES}
intents = fl.adopted("intents", features={features}, classes={classes},  {model}
    label=fl.outcome({label}, within="1d"), metric="precision@1")


@fl.capability("/api/intent", model=intents)  {api}
def understand(scored: fl.Scored, {parameters}) -> list[str]:
    return scored.top(1)
"""


MISTAKES = {
    "classes that are no entity": (
        classifier(classes="'intent'"),
        "classes='intent' is not an entity of type str",
        "fl.Entity",
    ),
    "classes that are numbers": (
        classifier(classes="number"),
        "not an entity of type str",
        "fl.Entity",
    ),
    "classes of two texts": (
        classifier(
            features='[fl.request.param("text", str), fl.request.param("title", str)]',
            parameters="message_id: str, text: str, title: str",
        ),
        "features= is not one text",
        "fl.request.param",
    ),
    "classes of a number": (
        classifier(
            features='[fl.request.param("text", int)]', parameters="message_id: str, text: int"
        ),
        "features= is not one text",
        "fl.request.param",
    ),
    "an outcome that names no class": (
        classifier(label="Counted"),
        "no field 'intent'",
        "There are: message_id",
    ),
    "requests that cannot be told apart": (
        classifier(parameters="text: str", of_api=True),
        "every request has the same rows",
        "message_id: str",
    ),
}


@pytest.mark.parametrize(("snippet", "what", "fix"), cases(MISTAKES))
def test_each_mistake_is_one_problem(tmp_path, snippet, what, fix):
    check(tmp_path, snippet, what, fix)


def test_a_classifier_as_it_should_be(tmp_path):
    path = tmp_path / "desk.py"
    path.write_text(f"import feilun as fl\n{classifier()}")
    project = load_project(path)
    model = project.models["intents"]
    assert model.classes == project.entities["intent"]
    assert [key.name for key in model.keys] == ["intent"]
    assert project.capabilities["intent"].item == "intent"
