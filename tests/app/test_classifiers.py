"""A text classifier of a Hugging Face folder in production, by the command line alone."""

import os
import signal

import pytest

pytest.importorskip("mlflow")

from feilun.adapters.encoder import load_encoder
from feilun.models.encoder_folder import read_classifier
from feilun.testing.encoder_fakes import CLASSES, write_classifier_folder

pytestmark = pytest.mark.xdist_group("up")

DEFINITIONS = '''
"""A help desk."""

from typing import TypedDict

import feilun as fl

message, intent = fl.Entity("message_id", str), fl.Entity("intent", str)


class Handled(fl.Event):
    message_id: fl.Field[str]
    intent: fl.Field[str]


class Usual(fl.FeatureView):
    intents = fl.top(Handled.intent, n=20)


intents = fl.adopted(
    "intents",
    features=[fl.request.param("sentence", str)],
    classes=intent,
    label=fl.outcome(Handled, within="1d"),
    metric="precision@1",
)
urgency = fl.adopted(
    "urgency",
    features=[fl.request.param("sentence", str)],
    label=fl.outcome(Handled, within="1d"),
    metric="auc",
)


class Guess(TypedDict):
    intent: str
    probability: float


@fl.capability("/api/intent", model=intents, fallback=Usual.intents)
def understand(scored: fl.Scored, message_id: str, sentence: str, k: int = 3) -> list[Guess]:
    """What a customer wants, the likeliest first."""
    share = dict(zip(scored.items, scored.scores.tolist(), strict=True))
    return [{"intent": each, "probability": share[each]} for each in scored.top(k)]


@fl.capability("/api/urgency", model=urgency, item=message)
def urgent(scored: fl.Scored, message_id: str, sentence: str) -> float:
    return float(scored.scores[0])
'''


@pytest.fixture
def desk(tmp_path, shop_maker):
    def made(*settings):
        shop = shop_maker(tmp_path, *settings, "lake = false")
        (shop.root / "shop.py").write_text(DEFINITIONS)
        return shop

    return made


def probabilities(folder, sentence):
    (found,) = load_encoder(read_classifier(folder)).encode([sentence])
    return dict(zip(CLASSES, found.tolist(), strict=True))


def ask(shop, number, sentence="退款 where"):
    body = {"message_id": f"m{number}", "sentence": sentence, "k": 2}
    return shop.call("/api/intent", body)


def assert_is_of(reply, folder, sentence="退款 where"):
    expected = probabilities(folder, sentence)
    best = sorted(expected, key=expected.get, reverse=True)[:2]
    assert [each["intent"] for each in reply["result"]] == best
    found = [each["probability"] for each in reply["result"]]
    assert found == pytest.approx([expected[each] for each in best], abs=1e-5)


def encoder_pid(shop):
    written = (shop.root / ".feilun/run/encoder.lock").read_text().split()
    return int(written[0]) if written else None


def test_a_classifier_is_adopted_shadowed_and_survives_its_process(desk, tmp_path, start, until):
    shop = desk("workers = 2")
    first = write_classifier_folder(tmp_path / "first", "DistilBert", seed=1)
    second = write_classifier_folder(tmp_path / "second", "Bert", seed=2, graph=True)
    with start(shop):
        until(lambda: shop.call("/status")[1]["lag"] == 0)
        assert ask(shop, 0)[1]["degraded"] == ["no_model"]
        adopted = shop.json("adopt", "intents", first)
        assert adopted["format"] == "text-classifier/1"
        assert adopted["columns"] == {
            "intents(request:sentence)[intent]": f"softmax: {', '.join(CLASSES)}"
        }
        assert adopted["behind"] == []
        for number in range(20):  # of either worker; the first request finds it loaded
            status, reply = ask(shop, 100 + number)
            assert (status, reply["version"], reply["degraded"]) == (200, 1, [])
        assert_is_of(reply, first)
        described = shop.call("/openapi.json")[1]["components"]["schemas"]["type.Guess"]
        assert set(described["properties"]) == {"intent", "probability"}

        assert "--replace" in shop.run("adopt", "intents", second, code=2).stderr
        assert "shadow" in shop.run("adopt", "intents", second, "--shadow").stdout
        for number in range(10):
            assert_is_of(ask(shop, 300 + number)[1], first)
        until(lambda: 'version="2",result="kept"' in shop.text("/metrics"))
        shop.run("rollout", "promote", "intents")
        assert_is_of(ask(shop, 200)[1], second)
        shop.run("rollback", "intents")
        assert_is_of(ask(shop, 201)[1], first)

        killed = encoder_pid(shop)
        os.kill(killed, signal.SIGKILL)
        status, reply = ask(shop, 400, "not remembered")
        assert status == 200
        assert "encoder_failed" in reply["degraded"] or reply["degraded"] == []
        until(lambda: encoder_pid(shop) not in (None, killed))
        until(lambda: ask(shop, os.urandom(4).hex(), os.urandom(4).hex())[1]["degraded"] == [])
    log = (shop.root / ".feilun/run/encoder.log").read_text()
    assert log.count("the encoder intents") == 1, "it is loaded before anybody asks for it"


def test_a_number_scores_one_row(desk, tmp_path, start, until):
    shop = desk()
    folder = write_classifier_folder(tmp_path / "urgency", "Roberta", classes=["urgency"])
    with start(shop):
        shop.run("adopt", "urgency", folder)
        path = "/api/urgency?message_id=m&sentence=where"
        until(lambda: shop.call(path)[1].get("version") == 1)
        (expected,) = load_encoder(read_classifier(folder)).encode(["where"])[0]
        assert shop.call(path)[1]["result"] == pytest.approx(float(expected), abs=1e-5)


def test_what_does_not_fit_the_definition_changes_nothing(desk, tmp_path):
    shop = desk()
    classes = write_classifier_folder(tmp_path / "classes")
    number = write_classifier_folder(tmp_path / "number", classes=["urgency"])
    encoder = write_classifier_folder(tmp_path / "encoder", architectures=["BertModel"])
    (tmp_path / "model.txt").write_text("tree\n")
    for model, source, said in [
        ("intents", number, "classes="),
        ("urgency", classes, "classes=intent"),
        ("intents", encoder, "feilun encoder add"),
        ("intents", tmp_path / "model.txt", "text classifier"),
    ]:
        assert said in shop.run("adopt", model, source, code=1).stderr
    assert shop.json("history")["releases"] == []
    assert not list((shop.root / ".feilun/encoders").glob("*"))


def test_a_damaged_classifier_is_said_and_the_rest_goes_on(desk, tmp_path, start, until):
    shop = desk()
    folder = write_classifier_folder(tmp_path / "classes")
    shop.run("adopt", "intents", folder)
    (weights,) = (shop.root / ".feilun/encoders").glob("*/model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with start(shop):
        until(lambda: shop.call("/status")[1]["lag"] == 0)
        status, reply = ask(shop, 1)
        assert status == 200
        assert {"encoder_failed", "model_failed"} <= set(reply["degraded"])
        until(
            lambda: any(
                "damaged" in p or "differ" in p for p in shop.call("/status")[1]["problems"]
            )
        )
