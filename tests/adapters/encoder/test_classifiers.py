"""Text classifiers from their folders: four heads, three kinds of numbers, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.adapters.encoder import ClassifierLoader, describe, load_encoder
from feilun.adapters.encoder.safetensors import read_safetensors
from feilun.errors import FeilunError, InputError, ModelError, WrongColumns
from feilun.models.encoder import digest_of, read_encoder, write_encoder
from feilun.models.encoder_folder import read_classifier, read_folder
from feilun.testing.encoder_fakes import (
    CLASSES,
    CLASSIFIERS,
    POSITIONS,
    write_classifier_folder,
    write_encoder_folder,
    write_safetensors,
)

TEXTS = ["where is my order", "", "退款 refund", "x " * 100, "地址"]


def classify(folder, texts=TEXTS):
    return load_encoder(read_classifier(folder)).encode(texts)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_weights_and_the_graph_of_them_give_the_same(tmp_path, kind):
    """The graph is built apart from BERT's weights, and run by ONNX Runtime."""
    weights = classify(write_classifier_folder(tmp_path / "w", kind, seed=3))
    graph = classify(write_classifier_folder(tmp_path / "g", kind, seed=3, graph=True))
    np.testing.assert_allclose(weights, graph, rtol=0, atol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert weights.std(axis=0).max() > 0.01, "texts that are all alike prove little"


def test_the_heads_differ(tmp_path):
    found = [classify(write_classifier_folder(tmp_path / kind, kind)) for kind in CLASSIFIERS]
    assert not np.allclose(found[0], found[3], atol=1e-3)  # tanh, relu


@pytest.mark.parametrize("graph", [True, False])
def test_what_the_numbers_go_through(tmp_path, graph):
    def numbers(name, **config):
        made = {"graph": graph, "seed": 5} | config
        return classify(write_classifier_folder(tmp_path / name, **made))

    raw = numbers("none", function_to_apply="none")
    multi = numbers("multi", problem_type="multi_label_classification")
    one = numbers("one", problem_type="single_label_classification")
    said = numbers("said", function_to_apply="sigmoid")
    raised = np.exp(raw)
    np.testing.assert_allclose(one, raised / raised.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(multi, 1 / (1 + np.exp(-raw)), atol=1e-6)
    np.testing.assert_array_equal(multi, said)
    alone = numbers("number", classes=["urgency"])
    assert alone.shape == (len(TEXTS), 1)
    assert (alone < 0).any() or (alone > 1).any(), "a number, and no probability"


def test_large_numbers_are_probabilities_too(tmp_path):
    folder = write_classifier_folder(tmp_path / "a", problem_type="multi_label_classification")
    weights = read_safetensors((folder / "model.safetensors").read_bytes())
    weights["classifier.bias"] = np.array([-500, 500, 0, 0], np.float32)
    (folder / "model.safetensors").write_bytes(write_safetensors(weights))
    found = classify(folder)
    assert np.isfinite(found).all()
    assert (found[:, 0] < 1e-6).all()
    assert (found[:, 1] == 1).all()


def test_half_numbers_are_read(tmp_path):
    folder = write_classifier_folder(tmp_path / "a")
    whole = classify(folder)
    weights = read_safetensors((folder / "model.safetensors").read_bytes())
    half = {name: value.astype(np.float16) for name, value in weights.items()}
    (folder / "model.safetensors").write_bytes(write_safetensors(half))
    np.testing.assert_allclose(classify(folder), whole, atol=0.01)


def test_a_text_has_its_classes_in_any_company(tmp_path):
    classifier = load_encoder(read_classifier(write_classifier_folder(tmp_path / "a", "Roberta")))
    together = classifier.encode(TEXTS)
    alone = np.concatenate([classifier.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-6)


def test_what_the_folder_says(tmp_path):
    folder = write_classifier_folder(tmp_path / "a", "XLMRoberta")
    spec = read_classifier(folder).spec
    assert (spec.dim, spec.max_tokens, spec.bert.first_position) == (4, POSITIONS, 2)
    assert (spec.classifier.classes, spec.classifier.output) == (CLASSES, "softmax")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 8}')
    assert read_classifier(folder).spec.max_tokens == 8
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    assert read_classifier(folder).spec.max_tokens == POSITIONS


def test_many_classes_fit_where_they_are_kept(tmp_path):
    classes = [f"{at:04}{'意图' * 30}" for at in range(1_000)]
    parts = read_classifier(write_classifier_folder(tmp_path / "a", classes=classes))
    digest = write_encoder(tmp_path / "kept", parts)
    assert read_encoder(tmp_path / "kept", digest).spec.classifier.classes == tuple(classes)
    (shown,) = ClassifierLoader().column_names(describe(digest, parts.spec))
    assert shown.endswith(", … (1000)")


def test_unnamed_classes_are_numbered(tmp_path):
    folder = write_classifier_folder(tmp_path / "a", classes=["x", "y"], id2label=None)
    assert read_classifier(folder).spec.classifier.classes == ("LABEL_0", "LABEL_1")


def test_it_is_kept_as_encoders_are_and_encoders_keep_their_digest(tmp_path):
    parts = read_classifier(write_classifier_folder(tmp_path / "c", "DistilBert"))
    digest = write_encoder(tmp_path / "kept", parts)
    assert digest == digest_of(parts.spec)
    assert read_encoder(tmp_path / "kept", digest) == parts
    encoder = read_folder(write_encoder_folder(tmp_path / "e"))
    other = write_encoder(tmp_path / "kept", encoder)
    text = (tmp_path / "kept" / other / "encoder.json").read_text()
    assert "classifier" not in text, "its digest stands in definitions"


@pytest.mark.parametrize("kind", ["Bert", "DistilBert"])
def test_a_classifier_is_an_encoder_too(tmp_path, kind):
    """Its network without the head, as before; DistilBERT's names are read as BERT's."""
    folder = write_classifier_folder(tmp_path / "a", kind)
    assert load_encoder(read_folder(folder)).encode(["where"]).shape == (1, 16)


def refused(folder):
    with pytest.raises(FeilunError) as caught:
        load_encoder(read_classifier(folder))
    assert isinstance(caught.value, InputError | ModelError)
    return f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["BertModel"]}, "feilun encoder add"),
        ({"architectures": None}, "no text classifier"),
        ({"architectures": ["MyForSequenceClassification"]}, "text-classification"),
        ({"architectures": ["ElectraForSequenceClassification"]}, "text-classification"),
        ({"architectures": ["RobertaForSequenceClassification"]}, "lack classifier.dense"),
        ({"model_type": "electra"}, "text-classification"),
        ({"id2label": {"0": "a", "1": "a", "2": "b", "3": "c"}}, "once in id2label"),
        ({"id2label": {"0": "a", "2": "b"}}, "from 0 on"),
        ({"id2label": {"0": "a", "1": 7}}, "id2label"),
        ({"id2label": {"0": "a", "1": " "}}, "id2label"),
        ({"id2label": {"0": "a", "1": "a\0"}}, "id2label"),
        ({"id2label": {"0": "a", "1": "图" * 67}}, "200 bytes"),
        ({"id2label": {str(at): f"c{at}" for at in range(4_097)}}, "at most 4096"),
        ({"id2label": {}}, "id2label"),
        ({"id2label": ["a", "b"]}, "id2label"),
        ({"id2label": {"0": "a", "1": "b"}}, "has the shape (4, 16)"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "a program"),
        ({"num_hidden_layers": 3}, "lack encoder.layer.2"),
        ({"hidden_size": 20}, "shape"),
        ({"position_embedding_type": "relative_key"}, "not run"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, config, said):
    assert said in refused(write_classifier_folder(tmp_path / "a", **config))


def test_half_a_character_is_no_class(tmp_path):
    folder = write_classifier_folder(tmp_path / "a")
    text = (folder / "config.json").read_text("utf-8").replace("hours", "\\ud800")
    (folder / "config.json").write_text(text, "utf-8")
    assert "id2label" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    folder = write_classifier_folder(tmp_path / "a")
    (folder / name).unlink()
    assert name in refused(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [("model.safetensors.index.json", "max_shard_size"), ("pytorch_model.bin", "save_pretrained")],
)
def test_weights_of_other_forms_are_refused_with_the_way(tmp_path, name, said):
    folder = write_classifier_folder(tmp_path / "a")
    (folder / "model.safetensors").rename(folder / name)
    assert said in refused(folder)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, bad):
    """Wherever they are: here in a word that no text of the trial has."""
    folder = write_classifier_folder(tmp_path / "a")
    weights = read_safetensors((folder / "model.safetensors").read_bytes())
    weights["bert.embeddings.word_embeddings.weight"] = weights[
        "bert.embeddings.word_embeddings.weight"
    ].copy()
    weights["bert.embeddings.word_embeddings.weight"][-1, 3] = bad
    (folder / "model.safetensors").write_bytes(write_safetensors(weights))
    assert "not finite" in refused(folder)


def test_a_tokenizer_of_another_network_is_refused(tmp_path):
    folder = write_classifier_folder(tmp_path / "a")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["多"] = len(tokenizer["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "the network knows" in refused(folder)


def test_a_graph_of_vectors_is_no_classifier(tmp_path):
    folder = write_classifier_folder(tmp_path / "a")
    graph = write_encoder_folder(tmp_path / "b", graph=True) / "model.onnx"
    (folder / "model.onnx").write_bytes(graph.read_bytes())
    assert "text-classification" in refused(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder, its files, and nothing that hypothesis would write out whole."""
    folder = write_classifier_folder(tmp_path_factory.mktemp("classifier") / "a", "DistilBert")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return lambda: (folder, files)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["config.json", "tokenizer.json", "model.safetensors"]),
    at=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
def test_a_damaged_folder_is_refused_or_gives_probabilities(whole, name, at, byte, cut):
    folder, files = whole()
    data = bytearray(files[name])
    place = int(at * len(data))
    if cut:
        del data[place:]
    else:
        data[place] = byte
    (folder / name).write_bytes(data)
    try:
        parts = read_classifier(folder)
        found = load_encoder(parts).encode(TEXTS)
    except (ModelError, InputError):
        return
    finally:
        (folder / name).write_bytes(files[name])
    assert found.shape == (len(TEXTS), parts.spec.dim)
    assert np.isfinite(found).all()


def test_the_scorer_gives_what_was_read(tmp_path):
    parts = read_classifier(write_classifier_folder(tmp_path / "a"))
    data = describe("0" * 64, parts.spec)
    loader = ClassifierLoader()
    assert loader.column_names(data) == (f"softmax: {', '.join(CLASSES)}",)
    scorer = loader.load(data, 1)
    rows = np.array([[0.25], [np.nan]], np.float32)
    np.testing.assert_array_equal(scorer.score(rows), [0.25, np.nan])
    with pytest.raises(WrongColumns):
        loader.load(data, 2)
    for bad in (b"", b"{}", data[:-5], b"[" * 100_000):
        with pytest.raises(ModelError):
            loader.load(bad, 1)
    with pytest.raises(ModelError, match="encoder"):
        describe("0" * 64, read_folder(write_encoder_folder(tmp_path / "e")).spec)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_transformers_says_the_same(tmp_path, kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = write_classifier_folder(
        tmp_path / "a",
        kind,
        type_vocab_size=2,
        pad_token_id=1 if "Roberta" in kind else 0,
    )
    parts = read_classifier(folder)
    size = len(next(iter(read_safetensors(parts.network).values())))
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": size}
    (folder / "config.json").write_text(json.dumps(config))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    for text in ["where is my order", "退款", "a b c"]:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            expected = theirs(ids, attention_mask=torch.ones_like(ids)).logits.softmax(-1)
        np.testing.assert_allclose(classify(folder, [text]), expected.numpy(), atol=1e-5)
