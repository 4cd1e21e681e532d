"""Files that TensorFlow itself has written, beside what TensorFlow says of them."""

import numpy as np
import pytest

from feilun.adapters.tensorflow import pack
from feilun.adapters.tensorflow.saved_model import read_saved_model, score
from feilun.adapters.tensorflow.signature import names_of, read_inputs
from feilun.errors import ModelError

tensorflow = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore")
RNG = np.random.default_rng(0)


def floats(rows, columns):
    return RNG.normal(size=(rows, columns)).astype(np.float32) * 2


def whole(rows, columns, end):
    return RNG.integers(0, end, (rows, columns)).astype(np.float32)


def stirred(model):
    """Give a model other weights than noughts and ones."""
    for weight in model.weights:
        value = np.asarray(weight)
        if value.dtype.kind == "f":
            made = RNG.normal(size=value.shape).astype(value.dtype) / 2
            weight.assign(np.abs(made) + 0.5 if "variance" in weight.path else made)
    return model


def layered(columns, *parts):
    return stirred(keras.Sequential([keras.Input((columns,)), *parts, layers.Dense(1)]))


def mixed():
    clicks, price = keras.Input((1,), name="clicks"), keras.Input((1,), name="price")
    user = keras.Input((1,), name="user", dtype="int32")
    deep = layers.Concatenate()([clicks, price, layers.Flatten()(layers.Embedding(9, 4)(user))])
    deep = layers.Dense(8, activation="gelu")(deep)
    score = layers.Dense(1, activation="sigmoid")(layers.Concatenate()([deep, clicks]))
    return stirred(keras.Model({"user": user, "price": price, "clicks": clicks}, score))


def attending():
    items = keras.Input((6,), dtype="int32")
    found = layers.Embedding(20, 8, mask_zero=True)(items)
    found = layers.LayerNormalization()(found + layers.MultiHeadAttention(2, 4)(found, found))
    found = layers.Bidirectional(layers.LSTM(3))(found)
    return stirred(keras.Model(items, layers.Dense(1)(found)))


def prepared():
    age = keras.Input((1,), name="age")
    kind, place = (keras.Input((1,), name=name, dtype="int32") for name in ("kind", "place"))
    parts = [
        layers.Discretization([1.0, 2.5], output_mode="one_hot")(age),
        layers.CategoryEncoding(5, output_mode="one_hot")(kind),
        layers.IntegerLookup(vocabulary=[1, 3], output_mode="one_hot")(place),
        layers.Flatten()(layers.Embedding(10, 3)(layers.Hashing(10)(place))),
    ]
    made = layers.Dense(1)(layers.Concatenate()(parts))
    return stirred(keras.Model({"age": age, "kind": kind, "place": place}, made))


MODELS = {
    "dense": lambda: (
        layered(4, layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dense(3, "silu")),
        floats(40, 4),
    ),
    "convolutions": lambda: (
        layered(
            64,
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.MaxPooling2D(2),
            layers.Conv2DTranspose(3, 3, strides=2),
            layers.GlobalAveragePooling2D(),
        ),
        floats(20, 64),
    ),
    "recurrent": lambda: (
        layered(
            12,
            layers.Reshape((6, 2)),
            layers.GRU(5, return_sequences=True),
            layers.SimpleRNN(4),
        ),
        floats(20, 12),
    ),
    "mixed": lambda: (mixed(), np.hstack([floats(40, 2), whole(40, 1, 9)])),
    "attending": lambda: (attending(), whole(20, 6, 20)),
    "prepared": lambda: (prepared(), np.hstack([floats(40, 1), whole(40, 2, 5)])),
}


def said(folder, rows):
    """Return what TensorFlow says."""
    serve = tensorflow.saved_model.load(folder).signatures["serving_default"]
    given, start = {}, 0
    for name, spec in sorted(serve.structured_input_signature[1].items()):
        width = spec.shape[1] or 1
        given[name] = tensorflow.cast(rows[:, start : start + width], spec.dtype)
        start += width
    return next(iter(serve(**given).values())).numpy().reshape(-1)


@pytest.mark.parametrize("save", ["export", "tf.saved_model.save"])
@pytest.mark.parametrize("kind", MODELS)
def test_keras(kind, save, tmp_path):
    model, rows = MODELS[kind]()
    if save == "export":
        model.export(str(tmp_path), verbose=False)
    else:
        tensorflow.saved_model.save(model, str(tmp_path))
    data = pack(tmp_path, 1 << 30)
    found = score(read_saved_model(data, rows.shape[1]), rows)
    np.testing.assert_allclose(found, said(str(tmp_path), rows), rtol=1e-5, atol=1e-5)
    if (kind, save) == ("mixed", "export"):
        assert names_of(read_inputs(data, None)) == ("clicks", "price", "user")


class Module(tensorflow.Module):
    def __init__(self, words):
        super().__init__()
        lookup = tensorflow.lookup
        self.weight = tensorflow.Variable(floats(4, 1))
        self.numbers = lookup.StaticHashTable(
            lookup.KeyValueTensorInitializer(
                tensorflow.constant([1, 2], tensorflow.int64), tensorflow.constant([0.5, -2.0])
            ),
            7.0,
        )
        lines, number = lookup.TextFileIndex.WHOLE_LINE, lookup.TextFileIndex.LINE_NUMBER
        self.words = lookup.StaticHashTable(
            lookup.TextFileInitializer(
                str(words), tensorflow.string, lines, tensorflow.int64, number
            ),
            -1,
        )

    @tensorflow.function(input_signature=[tensorflow.TensorSpec([None, 4], tensorflow.float32)])
    def __call__(self, x):
        found = x @ self.weight + self.numbers.lookup(tensorflow.cast(x[:, :1], tensorflow.int64))
        word = self.words.lookup(tensorflow.strings.as_string(x[:, 1:2], precision=0))
        for _ in tensorflow.range(3):
            found = found / 2 + tensorflow.cast(word, tensorflow.float32)
        if tensorflow.reduce_max(x) > 3:
            found += 10.0
        return found


def test_the_state_of_dropout_that_nobody_reads_is_left_alone(tmp_path):
    # The export changes it whenever it is called, though only training needs it.
    model = layered(12, layers.Reshape((6, 2)), layers.LSTM(3, dropout=0.1, recurrent_dropout=0.2))
    model.export(str(tmp_path), verbose=False)
    rows = floats(20, 12)
    found = score(read_saved_model(pack(tmp_path, 1 << 30), 12), rows)
    np.testing.assert_allclose(found, said(str(tmp_path), rows), rtol=1e-5, atol=1e-5)


def test_inputs_of_texts_get_the_texts_of_codes(tmp_path):
    city, price = keras.Input((1,), name="city", dtype="string"), keras.Input((1,), name="price")
    known = layers.StringLookup(vocabulary=["北京", "上海"])(city)
    parts = [layers.Flatten()(layers.Embedding(4, 3)(known)), price]
    parts.append(layers.Flatten()(layers.Embedding(8, 2)(layers.Hashing(8)(city))))
    out = layers.Dense(1)(layers.Concatenate()(parts))
    model = stirred(keras.Model({"city": city, "price": price}, out))
    model.export(str(tmp_path), verbose=False)
    texts = ["上海", "广州", "北京"]
    rows = np.array([[0, 1], [1, 2], [2, 3], [np.nan, 4]], np.float32)
    data = pack(tmp_path, 1 << 30, {0: texts})
    found = score(read_saved_model(data, 2), rows)
    serve = tensorflow.saved_model.load(str(tmp_path)).signatures["serving_default"]
    given = {"city": [[text] for text in (*texts, "")], "price": rows[:, 1:]}
    given = {name: tensorflow.constant(value) for name, value in given.items()}
    expected = next(iter(serve(**given).values())).numpy().reshape(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_tables_files_loops_and_branches(tmp_path):
    (tmp_path / "words").write_text("3\n1\n")
    folder = str(tmp_path / "saved")
    tensorflow.saved_model.save(Module(tmp_path / "words"), folder)
    (tmp_path / "words").unlink()
    for rows in (whole(30, 4, 3), whole(30, 4, 6)):
        found = score(read_saved_model(pack(tmp_path / "saved", 1 << 30), 4), rows)
        np.testing.assert_allclose(found, said(folder, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("resource", [False, True])
def test_graphs_of_the_first_version(resource, parts, tmp_path):
    v1 = tensorflow.compat.v1
    folder = str(tmp_path / "saved")
    with tensorflow.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tensorflow.float32, [None, 4])
        weight = v1.get_variable(
            "weight",
            [4, 3],
            use_resource=resource,
            initializer=v1.random_normal_initializer(),
            partitioner=v1.fixed_size_partitioner(parts) if parts > 1 else None,
        )
        y = tensorflow.reduce_sum(x @ tensorflow.convert_to_tensor(weight), 1)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, folder, {"x": x}, {"y": y})
    rows = floats(20, 4)
    found = score(read_saved_model(pack(tmp_path / "saved", 1 << 30), 4), rows)
    np.testing.assert_allclose(found, said(folder, rows), rtol=1e-5, atol=1e-5)


class Writing(tensorflow.Module):
    @tensorflow.function(input_signature=[tensorflow.TensorSpec([None, 2], tensorflow.float32)])
    def __call__(self, x):
        tensorflow.io.write_file("feilun-was-here", "x")
        return tensorflow.reduce_sum(x, 1)


def test_what_writes_files_is_refused(tmp_path):
    tensorflow.saved_model.save(Writing(), str(tmp_path))
    with pytest.raises(ModelError, match="it calls WriteFile"):
        read_saved_model(pack(tmp_path, 1 << 30), 2)
