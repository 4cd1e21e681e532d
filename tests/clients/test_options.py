"""Generated clients offer whatever the description offers of each operation."""

import inspect
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_python import load, render

from feilun.clients.javascript import render_javascript
from feilun.clients.surface import read_surface
from feilun.serving.http.pages import tracker_source

NAMES = {"min_offset": "minOffset", "as_of": "asOf", "personalised": "personalised"}


@pytest.fixture(scope="module", params=["wall", "request"])
def every(request, described, source):
    """The description of a project, of a gateway with its own clock and of one that replays."""
    return described(source, clock=request.param)


def operations(description):
    """Return (name of the method, query options, path) of everything that a client calls."""
    for path, item in description["paths"].items():
        for method, operation in item.items():
            kind = operation["tags"][0]
            if kind == "batches" or (kind, method) in (("capabilities", "post"), ("views", "get")):
                name = path.removeprefix("/api/").replace("/batch", "_batch")
                asked = [p["name"] for p in operation["parameters"]]
                yield name, [each for each in asked if each in NAMES], path


def test_there_is_something_to_offer(every):
    offered = {each for _, options, _ in operations(every) for each in options}
    assert {"min_offset", "personalised"} <= offered
    assert len(list(operations(every))) == 8


def test_the_python_client_offers_every_option_and_sends_it(every, tmp_path, monkeypatch):
    module = load(render(every, tmp_path))
    sent = []

    def call(_, method, path, query, body, **own):
        sent.append((path, query, own))
        return {"replies": []}

    monkeypatch.setattr(module.Caller, "_call", call)
    client = module.Client("http://127.0.0.1:1")
    for name, options, path in operations(every):
        method = getattr(client, name)
        parameters = inspect.signature(method).parameters
        required = {
            each: [] if each == "requests" else 7
            for each, kind in parameters.items()
            if kind.default is inspect.Parameter.empty
        }
        values = {each: number for number, each in enumerate(options)}
        method(**required, **values, request_id="order-7", timeout=0.5)
        found, query, own = sent.pop()
        assert found == path
        assert {each: query[each] for each in options} == values
        assert own == {"id": "order-7", "timeout": 0.5}


def test_the_javascript_client_offers_every_option(every):
    files = render_javascript(read_surface(every), tracker_source())
    types = files["shop_client.d.ts"]
    for name, options, _ in operations(every):
        (line,) = [each for each in types.splitlines() if each.startswith(f"  {name}(")]
        _, _, offered = line.partition("options?: Options")
        for option, called in NAMES.items():
            assert (f"{called}?: " in offered) == (option in options), line


def test_a_parameter_of_the_same_name_is_the_capabilitys(described, source, tmp_path):
    source = source.replace("k: int = 3", "timeout: int = 3, request_id: int = 4, k: int = 3")
    module = load(render(described(source), tmp_path))
    parameters = inspect.signature(module.Client.recommend).parameters
    assert [each for each in parameters if each.startswith(("timeout", "request_id"))] == [
        "timeout", "request_id", "request_id_", "timeout_",
    ]  # fmt: skip
