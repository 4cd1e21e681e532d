"""`/docs`: whatever the definitions say, a browser shows it and a shell passes it on."""

import html
import re
import subprocess
from html.parser import HTMLParser

import pytest

from feilun.definitions.loading import load_project
from feilun.serving.description.docs_page import render
from feilun.serving.description.openapi import describe

SHOP = '''
import feilun as fl

user = fl.Entity("user_id", int)

class Visit(fl.Event):
    """Somebody came."""
    user_id: fl.Field[int]
    city: fl.Field[str]

class UserProfile(fl.FeatureView, entity=user, owner="growth"):
    """How a customer shops."""
    visits = fl.count(Visit)

@fl.model(features=[UserProfile.visits], label=fl.outcome(Visit, within="1h"), metric="auc")
def ranker(data): ...

@fl.capability("/api/greet", model=ranker, fallback=UserProfile.visits)
def greet(scored: fl.Scored, user_id: int, words: list[str] = [], name: str = "you") -> str:
    """Words for a customer."""
    return name
'''
BREAKOUTS = [
    "</pre></code></td><script>boom()</script>",
    "<img src=x onerror=boom()>",
    "\" onclick=\"boom()\" x=\"",
    "' onclick='boom()",
    "javascript:boom()",
    "</title></style><svg/onload=boom()>",
    "<!--", "]]>", "&lt;script&gt;", "{{7*7}}",
]  # fmt: skip
STRUCTURE = {"$ref", "in", "name", "tags", "type", "operationId", "openapi"}
"""What is a name in the description and no text; a definition cannot choose it freely."""


@pytest.fixture(scope="module")
def description(tmp_path_factory):
    path = tmp_path_factory.mktemp("project") / "shop.py"
    path.write_text(SHOP)
    return describe(load_project(path), "1")


def with_text(part, text, key=""):
    """Put ``text`` behind every text of a description that somebody may choose."""
    if isinstance(part, dict):
        return {name: with_text(value, text, name) for name, value in part.items()}
    if isinstance(part, list):
        return [with_text(value, text, key) for value in part]
    return part + text if isinstance(part, str) and key not in STRUCTURE else part


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, attributes))

    def handle_comment(self, data):
        self.found.append(("comment", data))


@pytest.mark.parametrize("text", BREAKOUTS)
def test_a_text_stays_text_in_the_page(description, text):
    url = "http://localhost:8600"
    plain, hostile = (
        render(description, url, keys=True),
        render(with_text(description, text), url + text, keys=True),
    )
    assert hostile.count(html.escape(text)) > 50
    assert Page(hostile).found == Page(plain).found


@pytest.mark.parametrize(
    "text",
    ["'; touch MARK; '", '"; touch MARK; "', "$(touch MARK)", "`touch MARK`", "\ntouch MARK\n",
     "\\'; touch MARK #", "| touch MARK", "&& touch MARK", "!touch MARK"],
)  # fmt: skip
def test_a_text_stays_an_argument_of_the_command_that_is_shown(description, text, tmp_path):
    """People copy these commands into a shell: one runs them here, with an idle curl."""
    text = text.replace("MARK", str(tmp_path / "mark"))
    (tmp_path / "curl").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "curl").chmod(0o755)
    page = render(with_text(description, text), "http://localhost:8600" + text, keys=True)
    commands = [html.unescape(each) for each in re.findall(r"<pre>(curl .*?)</pre>", page, re.S)]
    assert sum(text in each or "touch" in each for each in commands) > 5
    for command in commands:
        run = ["/bin/sh", "-c", command]
        subprocess.run(run, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, cwd=tmp_path)
    assert not (tmp_path / "mark").exists()
