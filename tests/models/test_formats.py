"""What may hold code is told by its content, is never loaded, and is refused with a way out."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.adapters.torch.script import read_script
from feilun.app.compose import scorer_loaders
from feilun.errors import FeilunError, ModelError
from feilun.models.bundle import FORMATS
from feilun.models.formats import recognise
from feilun.testing.saved_models import archive

MARKER = Path(tempfile.gettempdir()) / f"feilun-marker-{os.getpid()}"


class Exploit:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return os.mkdir, (str(MARKER),)


def zipped(**files):
    """Return a ZIP; two underscores in a name stand for a slash, one for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), data)
    return buffer.getvalue()


def tarred(name, data):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def numpy_bytes(save, *args, **options):
    buffer = io.BytesIO()
    save(buffer, *args, **options)
    return buffer.getvalue()


def corpus():
    evil = pickle.dumps(Exploit())
    objects = np.array([Exploit()], dtype=object)
    keras = json.dumps({"class_name": "Lambda", "config": {"function": "print"}}).encode()
    return {
        **{f"pickle {n}": (pickle.dumps(Exploit(), n), "its own format") for n in range(6)},
        "joblib zlib": (zlib.compress(evil), "unpack"),
        "joblib gzip": (gzip.compress(evil), "unpack"),
        "joblib bz2": (bz2.compress(evil), "unpack"),
        "joblib xz": (lzma.compress(evil), "unpack"),
        "torch.save": (zipped(m__data_pkl=evil, m__version=b"3"), "torch.onnx.export"),
        "torch.save, old": (pickle.dumps(0x1950A86A20F9469CFC6C) + evil, "torch.onnx.export"),
        "npy": (numpy_bytes(np.save, objects, allow_pickle=True), "booster.save_model"),
        "npz": (numpy_bytes(np.savez, a=objects), "skl2onnx"),
        "skops": (zipped(schema_json=b'{"__class__": "system"}'), "skl2onnx"),
        "keras": (zipped(config_json=keras, model_weights_h5=evil), "model.export"),
        "h5": (b"\x89HDF\r\n\x1a\n" + keras + evil, "model.export"),
        "saved_model.pb": (b"\x08\x01\x12\x80\x01" + evil, "folder"),
        "tar that climbs": (tarred("../../evil.pkl", evil), "Unpack"),
        "zip that climbs": (zipped(**{"..__..__evil_pkl": evil}), "Unpack"),
        "zip cut off": (zipped(m__data_pkl=evil)[:40], "Unpack"),
        "safetensors": ((9).to_bytes(8, "little") + b'{"a": 1} ' + evil, "optimum-cli"),
        "tflite": (b"\x1c\0\0\0TFL3" + evil, "--tflite"),
        "catboost": (b"CBM1" + evil, "format='onnx'"),
        "xgboost, old": (b"binf" + evil, "model.ubj"),
        "ort": (b"ORTM" + evil, "ONNX file"),
        "lightgbm json": (b'{"name": "tree", "version": "v4"}', "model.txt"),
        "json": (b'{"a": 1}', "save_model"),
        "yaml": (b"!!python/object/apply:os.system ['id']", "booster.save_model"),
        "empty": (b"", "booster.save_model"),
    }


@pytest.fixture
def marker():
    pickle.loads(pickle.dumps(Exploit()))
    assert MARKER.exists(), "the corpus must be able to do harm"
    MARKER.rmdir()
    yield MARKER
    if MARKER.exists():
        MARKER.rmdir()


@pytest.mark.parametrize("kind", corpus())
def test_what_may_hold_code_is_refused_with_the_way_to_convert(kind, marker):
    data, way = corpus()[kind]
    with pytest.raises(ModelError) as refused:
        recognise(data)
    text = str(refused.value)
    assert way.lower() in text.lower() or kind.startswith("pickle"), text
    assert refused.value.hint
    assert not marker.exists()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", corpus())
def test_no_loader_runs_it_either(format, kind, marker):
    loader = scorer_loaders()[format]
    with pytest.raises(FeilunError):
        loader.load(corpus()[kind][0], 2)
    assert not marker.exists()


@given(st.binary(max_size=400))
def test_whatever_the_bytes_are_they_are_a_format_or_refused(data):
    try:
        assert recognise(data) in FORMATS
    except ModelError as error:
        assert error.hint


def test_an_exported_program_of_pickles_is_refused_by_its_loader(marker):
    buffer = io.BytesIO(zipped(m__data_pkl=pickle.dumps(Exploit())))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("m/archive_format", b"pt2")
    data = buffer.getvalue()
    assert recognise(data) == "torch-export/1"
    with pytest.raises(ModelError, match="holds 0 programs"):
        scorer_loaders()["torch-export/1"].load(data, 2)
    assert not marker.exists()


def test_a_script_of_pickles_is_refused_by_its_reader(marker):
    evil = pickle.dumps(Exploit(), 2)
    data = zipped(m__data_pkl=evil, m__code____torch___py=b"", m__constants_pkl=b"")
    assert recognise(data) == "torchscript/1"
    with pytest.raises(ModelError, match="posix"):
        read_script(data)
    with pytest.raises(FeilunError):
        scorer_loaders()["torchscript/1"].load(data, 2)
    assert not marker.exists()


def test_the_formats_that_are_loaded_are_recognised():
    assert recognise(b"tree\nversion=v4\nnum_class=1\n") == "lightgbm-text/1"
    assert recognise(b'{"learner":{"attributes":{}}}') == "xgboost/1"
    assert recognise(b'{\n "version": [3, 2, 0], "learner": {}}') == "xgboost/1"
    assert recognise(b"{L\0\0\0\0\0\0\0\x07learner{}") == "xgboost/1"
    assert recognise(b"\x08\x09\x12\x00") == "onnx/1"


def test_a_saved_model_that_may_do_harm_is_refused_by_its_reader(marker):
    data = archive({"saved_model.pb": pickle.dumps(Exploit())})
    assert recognise(data) == "saved-model/1"
    with pytest.raises(ModelError, match="SavedModel cannot be run"):
        scorer_loaders()["saved-model/1"].load(data, 2)
    assert not marker.exists()
