"""A project with an encoder: one process of it for all workers, whatever happens to it."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from feilun.testing.encoder_fakes import HIDDEN, write_encoder_folder

DEFINITIONS = '''
"""A help desk and its shop."""

import feilun as fl

user, item = fl.Entity("user_id", int), fl.Entity("item_id", int)
ticket = fl.Entity("ticket_id", str)
text = fl.encoder("tiny", dim={dim}, digest="{digest}")


class Click(fl.Event):
    user_id: fl.Field[int]
    item_id: fl.Field[int]


class Listed(fl.Event):
    item_id: fl.Field[int]
    title: fl.Field[str]


class Solved(fl.Event):
    ticket_id: fl.Field[str]


class Person(fl.FeatureView, entity=user):
    clicks = fl.count(Click)


class Product(fl.FeatureView, entity=item):
    title = fl.last(Listed.title)


class Trends(fl.FeatureView):
    popular = fl.top(Listed.item_id, n=10)


likeness = fl.cosine(text(fl.request.param("query", str)), text(Product.title))
intents = fl.adopted(
    "intents",
    features=[text(fl.request.param("sentence", str))],
    label=fl.outcome(Solved, within="1d"),
    metric="auc",
)


@fl.model(features=[likeness, Person.clicks], label=fl.outcome(Click, within="1h"), metric="auc")
def searcher(data): ...


@fl.capability("/api/intent", model=intents, item=ticket)
def intent(scored: fl.Scored, ticket_id: str, sentence: str) -> float:
    return float(scored.scores[0])


@fl.capability("/api/search", model=searcher, candidates=[Trends.popular], fallback=likeness)
def search(scored: fl.Scored, user_id: int, query: str) -> list[int]:
    return scored.top(3)
'''


def onnx_sum(columns):
    """Return a model that adds its columns up; a missing one counts as 0."""
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, columns])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
    ]
    nodes = [
        helper.make_node("IsNaN", ["x"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "x"], ["there"]),
        helper.make_node("ReduceSum", ["there", "axes"], ["y"], keepdims=1),
    ]
    graph = helper.make_graph(nodes, "sum", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def add_encoder(shop, folder):
    """Add the encoder in a folder and define the project with it; return its digest."""
    (shop.root / "shop.py").write_text("import feilun as fl\n")
    found = shop.json("encoder", "add", folder)
    text = DEFINITIONS.format(dim=found["dim"], digest=found["digest"])
    (shop.root / "shop.py").write_text(text)
    return found["digest"]


def adopt(shop):
    (shop.root / "sum.onnx").write_bytes(onnx_sum(HIDDEN))
    shop.run("adopt", "intents", shop.root / "sum.onnx")


def list_titles(shop):
    events = [
        {"event": "listed", "fields": {"item_id": n, "title": title}}
        for n, title in enumerate(["red shoes", "blue socks", "green tea"])
    ]
    path = shop.root / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    shop.run("send", "--file", path)


def encoder_pid(shop):
    """Return the process that holds the encoder's lock, by what it wrote there; None before."""
    written = (shop.root / ".feilun/run/encoder.lock").read_text().split()
    return int(written[0]) if written else None


def states(pid):
    """Return the letters of what the threads of a process do."""
    found = Path(f"/proc/{pid}/task").glob("*/stat")
    return {each.read_text().rsplit(")", 1)[1].split()[0] for each in found}


def processes(shop):
    """Return the mapped files of each process that works in the shop's folder, by pid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").readlink() == shop.root:
                found[int(path.name)] = (path / "maps").read_text()
        except OSError:  # it has ended, or is another user's
            continue
    return found


def test_one_process_encodes_for_two_workers_and_two_capabilities(
    tmp_path, shop_maker, start, until
):
    shop = shop_maker(tmp_path, "workers = 2", "lake = false")
    digest = add_encoder(shop, write_encoder_folder(tmp_path / "tiny", graph=True))
    adopt(shop)
    with start(shop):
        list_titles(shop)
        until(lambda: len(shop.call("/api/search?user_id=1&query=red")[1]["result"]) == 3)
        until(lambda: shop.call("/api/intent?ticket_id=t&sentence=hi")[1].get("version") == 1)
        best = set()
        for number in range(60):
            status, reply = shop.call(f"/api/intent?ticket_id=t{number}&sentence=where{number}")
            assert (status, reply["degraded"]) == (200, [])
            status, reply = shop.call(f"/api/search?user_id={number}&query=shoes")
            assert (status, reply["degraded"]) == (200, ["no_model"])
            best.add(reply["result"][0])
        assert len(best) == 1
        workers = {line.split('worker="')[1].split('"')[0] for _ in range(40)
                   for line in shop.text("/metrics").splitlines() if "result=" in line}  # fmt: skip
        assert len(workers) == 2  # both have had texts encoded
        alive = processes(shop)
        assert len(alive) >= 6  # the supervisor, a gateway of two workers, engine, flywheel
        loaded = [pid for pid, maps in alive.items() if "/tokenizers/" in maps]
        assert loaded == [encoder_pid(shop)]  # nobody else has so much as the library
        assert shop.json("status")["processes"]["encoder"]["state"] == "ready"
        assert shop.json("encoder", "list")["encoders"][0]["digest"] == digest


def test_a_killed_encoder_fails_no_request_and_comes_back(tmp_path, shop_maker, start, until):
    shop = shop_maker(tmp_path, "workers = 2", "lake = false")
    add_encoder(shop, write_encoder_folder(tmp_path / "tiny", graph=True))
    adopt(shop)
    replies, done = [], threading.Event()

    def ask(caller):
        number = 0
        while not done.is_set():
            number += 1
            path = f"/api/intent?ticket_id=t{caller}-{number}&sentence=s{caller}x{number}"
            replies.append(shop.call(path))

    with start(shop):
        until(lambda: shop.call("/api/intent?ticket_id=t&sentence=hi")[1].get("degraded") == [])
        callers = [threading.Thread(target=ask, args=(caller,)) for caller in range(4)]
        for caller in callers:
            caller.start()
        killed = []
        for _ in range(3):
            before = len(replies)
            until(lambda before=before: len(replies) > before + 40)
            killed.append(encoder_pid(shop))
            os.kill(killed[-1], signal.SIGKILL)
            until(lambda: any("encoder_failed" in r["degraded"] for _, r in replies[-20:]))
            until(lambda pid=killed[-1]: encoder_pid(shop) not in (None, pid))
            until(lambda: replies[-1][1]["degraded"] == [])
        done.set()
        for caller in callers:
            caller.join(30)
    assert len(set(killed)) == 3
    assert {status for status, _ in replies} == {200}
    flags = {flag for _, reply in replies for flag in reply["degraded"]}
    assert flags == {"encoder_failed", "missing:tiny(request:sentence)"}


def test_a_hung_encoder_is_flagged_within_the_deadline(tmp_path, shop_maker, start, until):
    shop = shop_maker(tmp_path, "lake = false")
    add_encoder(shop, write_encoder_folder(tmp_path / "tiny"))
    adopt(shop)
    with start(shop):
        until(lambda: shop.call("/api/intent?ticket_id=t&sentence=hi")[1].get("degraded") == [])
        pid = encoder_pid(shop)
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: states(pid) == {"T"})  # a thread that runs goes on for a moment
            times = []
            for number in range(10):
                began = time.monotonic()
                status, reply = shop.call(f"/api/intent?ticket_id=u{number}&sentence=n{number}")
                times.append(time.monotonic() - began)
                assert (status, reply.get("degraded", reply)[0]) == (200, "encoder_failed")
            assert max(times) < 3
            assert sorted(times)[4] < 0.5  # the breaker: most of them do not wait at all
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: shop.call("/api/intent?ticket_id=v&sentence=again")[1]["degraded"] == [])


def test_an_encoder_that_was_not_added_is_said_before_anything_runs(shop):
    text = DEFINITIONS.format(dim=HIDDEN, digest="0" * 64)
    (shop.root / "shop.py").write_text(text)
    error = shop.run("up", code=3).stderr
    assert "encoder" in error
    assert "feilun encoder add" in error


def test_an_encoder_of_another_size_is_said(shop, tmp_path):
    digest = add_encoder(shop, write_encoder_folder(tmp_path / "tiny"))
    (shop.root / "shop.py").write_text(DEFINITIONS.format(dim=HIDDEN + 1, digest=digest))
    assert f"dim={HIDDEN}" in shop.run("serve", "encoder", code=2).stderr


def test_add_prints_the_line_to_write(shop, tmp_path):
    folder = write_encoder_folder(tmp_path / "BGE-small zh")
    said = shop.run("encoder", "add", folder).stdout
    assert f'text = fl.encoder("bge_small_zh", dim={HIDDEN}, digest="' in said
    assert "bert-safetensors/1" in shop.run("encoder", "list").stdout


@pytest.mark.parametrize("config", [{"auto_map": {"AutoModel": "x.Y"}}, {"model_type": "gpt2"}])
def test_add_refuses_and_keeps_nothing(shop, tmp_path, config):
    folder = write_encoder_folder(tmp_path / "tiny", **config)
    assert "optimum-cli" in shop.run("encoder", "add", folder, code=1).stderr
    assert not list((shop.root / ".feilun/encoders").glob("*"))
    assert "feilun encoder add" in shop.run("encoder", "list").stdout
