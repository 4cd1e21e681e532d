"""Tells what a model's file is by its content; its name proves nothing.

What runs code when it is loaded is refused, with the way to write the same model so that it does
not. Nothing is loaded here: a few bytes are looked at, and the names in a ZIP's index.
"""

from __future__ import annotations

import io
import re
import zipfile
from typing import NamedTuple

from feilun.errors import ModelError
from feilun.i18n import _

_OWN_FORMATS = _(
    "Write it where it was trained: LightGBM with booster.save_model('model.txt'), XGBoost with "
    "booster.save_model('model.ubj'), scikit-learn with skl2onnx.to_onnx, PyTorch with "
    "torch.onnx.export."
)
_TORCH = _(
    "Load it where it was trained and write torch.onnx.export(model, (x,), 'model.onnx', "
    "dynamo=True, external_data=False), with an open number of rows."
)
_KERAS = _(
    "Load it where it was trained and write model.export('FOLDER'), whose folder can be adopted."
)
_HUGGING_FACE = _(
    "Its weights say nothing about what is computed with them. Of a text classifier name its "
    "folder; else convert it: optimum-cli export onnx --model FOLDER FOLDER_ONNX"
)


class _Refused(NamedTuple):
    what: str
    way: str


_MARKS = {
    b"\x89HDF\r\n\x1a\n": _Refused(_("a Keras file in HDF5, which may hold functions"), _KERAS),
    b"\x93NUMPY": _Refused(_("a NumPy array, which may hold a pickle"), _OWN_FORMATS),
    b"CBM1": _Refused(
        _("a CatBoost file"), _("Write it with model.save_model('model.onnx', format='onnx').")
    ),
    b"binf": _Refused(
        _("an XGBoost file of the old binary format"),
        _("Load it with XGBoost before 3.1 and write booster.save_model('model.ubj')."),
    ),
    b"ORTM": _Refused(_("an ONNX Runtime file"), _("Adopt the ONNX file that it was made from.")),
    b"\x08\x01": _Refused(
        _("TensorFlow's saved_model.pb without the weights beside it"), _("Name its folder.")
    ),
}
"""How files begin that are not loaded."""
_MARKS |= {
    mark: _Refused(
        _("compressed ({name}), as joblib's pickles are", name=name),
        _("If a model's own file is inside, unpack it. {way}", way=_OWN_FORMATS),
    )
    for name, marks in {
        "gzip": [b"\x1f\x8b"],
        "bzip2": [b"BZh"],
        "xz": [b"\xfd7zXZ\x00"],
        "lz4": [b"\x04\x22\x4d\x18"],
        "zstd": [b"\x28\xb5\x2f\xfd"],
        "zlib": [b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"],
    }.items()
    for mark in marks
}
_ARCHIVE = _Refused(
    _("an archive"), _("If a model's own file is inside, unpack it. {way}", way=_OWN_FORMATS)
)
_SAFETENSORS = _Refused(_("a safetensors file: weights alone"), _HUGGING_FACE)
_TFLITE = _Refused(
    _("a TensorFlow Lite file"),
    _(
        "Convert it: {command}",
        command="python -m tf2onnx.convert --tflite FILE --output model.onnx",
    ),
)
_ZIPPED = (
    (
        {"data.pkl"},
        _Refused(_("a pickle of PyTorch, which runs code when it is loaded"), _TORCH),
    ),
    ({"model.weights.h5"}, _Refused(_("a Keras file, which may hold functions"), _KERAS)),
    ({"schema.json"}, _Refused(_("a skops file, which names classes to import"), _OWN_FORMATS)),
)
"""ZIP files that are not loaded, by names that must be in them; the first that fits."""
_PICKLE = re.compile(rb"\x80[\x00-\x05]|[(cS]\w*[^{]*\n.*\.\s*\Z", re.DOTALL)
"""Of protocol 2 and later by its mark, earlier ones by how they begin and end."""


def recognise(data: bytes) -> str:
    r"""Return the format of a model's bytes, one of ``feilun.models.bundle.FORMATS``.

    A loader still has to check them: this only says which.

    Raises
    ------
    ModelError
        If they are of no format that is loaded; with the way to convert, where there is one.

    Examples
    --------
    >>> recognise(b"tree\nversion=v4\n")
    'lightgbm-text/1'
    """
    if data.startswith(b"PK\x03\x04"):
        names = _names(data)
        if "archive_format" in names:
            return "torch-export/1"
        if {"code/", "data.pkl"} <= names:
            return "torchscript/1"
        if "saved_model.pb" in names:
            return "saved-model/1"
    refused = _refusal(data)
    if refused is not None:
        raise ModelError(
            _("This is {what}; such files are not loaded.", what=refused.what), refused.way
        )
    if data.startswith(b"tree\n"):
        return "lightgbm-text/1"
    if data[:1] == b"{":
        return _of_braces(data)
    if data[:1] == b"\x08":  # the first field of an ONNX model, its version
        return "onnx/1"
    raise ModelError(_("This file is of no known model format."), _OWN_FORMATS)


def _refusal(data: bytes) -> _Refused | None:
    """Return what is known of a file that is not loaded; None if it may be."""
    found = next((known for mark, known in _MARKS.items() if data.startswith(mark)), None)
    if found is not None:
        return found
    if data[257:262] == b"ustar":
        found = _ARCHIVE
    elif data.startswith(b"PK\x03\x04"):
        found = _of_zip(data)
    elif data[4:8] == b"TFL3":
        found = _TFLITE
    elif data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        found = _SAFETENSORS
    elif _PICKLE.match(data):
        found = _Refused(_("a pickle, which runs code when it is loaded"), _OWN_FORMATS)
    return found


def _of_zip(data: bytes) -> _Refused:
    names = _names(data)
    for needed, found in _ZIPPED:
        if needed <= names:
            return found
    if names and all(name.endswith(".npy") for name in names):
        return _Refused(_("a file of NumPy arrays, which may hold pickles"), _OWN_FORMATS)
    return _ARCHIVE


def _names(data: bytes) -> set[str]:
    """Return the names in a ZIP's index without their folders; nothing is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            paths = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, OSError):
        return set()
    names = {path.rpartition("/")[2] for path in paths}
    return names | {"code/"} if any("/code/" in path for path in paths) else names


def _of_braces(data: bytes) -> str:
    if data[1:2] in b"iUIlL" and b"learner" in data[:64]:
        return "xgboost/1"
    if re.match(rb'\{\s*"(learner|version)"\s*:\s*[\{\[]', data):
        return "xgboost/1"
    if re.match(rb'\{\s*"name"\s*:\s*"tree"', data):
        raise ModelError(
            _("This is a LightGBM model as JSON, which LightGBM itself cannot load."),
            _("Write it with booster.save_model('model.txt')."),
        )
    raise ModelError(
        _("This JSON is no XGBoost model."),
        _("XGBoost writes one with save_model('model.json')."),
    )
