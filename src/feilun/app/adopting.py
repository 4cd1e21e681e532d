"""Where an adopted model comes from: a file, a folder, or an HTTP endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from feilun.app import compose
from feilun.app.config import Config
from feilun.definitions.specs import ClassSpec, EncodingSpec, ModelSpec
from feilun.errors import InputError, ModelError
from feilun.flywheel.adoption import ModelFile
from feilun.i18n import _
from feilun.models.bundle import MAX_DESCRIPTION, MAX_MODEL
from feilun.models.encoder import digest_of, write_encoder
from feilun.ports.encoder import Classifier


def read_model(
    config: Config,
    model: ModelSpec,
    source: str,
    categories: Mapping[str, Sequence[str]],
    *,
    private: bool = False,
    secret: str = "",
) -> ModelFile:
    """Read what ``feilun adopt`` names; an endpoint is described, and not asked yet.

    Parameters
    ----------
    config : Config
        The project: a text classifier is kept among its encoders.
    model : ModelSpec
        Whose version it is to be.
    source : str
        A file, a folder of MLflow's, of TensorFlow's or of a text classifier, or a URL.
    categories : mapping
        By address, the values of each text column in the order of their codes.
    private, secret : bool, str
        Of an endpoint: whether it may be in a private network, and the variable that holds the
        value of its Authorization header.

    Raises
    ------
    InputError
        If there is nothing to read, or the URL cannot be asked.
    ModelError
        If it is too large, or a folder of a kind that is not loaded.
    MissingExtra
        If a text classifier needs a library that is not installed.
    """
    if "://" in source:
        data = compose.endpoint(source, model.width, private=private, secret=secret)
        return ModelFile(data, source, "http-endpoint/1")
    if private or secret:
        raise InputError(
            _("--private and --secret are for endpoints, and {source} is none.", source=source)
        )
    path = Path(source)
    if (path / "saved_model.pb").is_file():
        data = compose.saved_model(path, MAX_MODEL, _texts(model, categories))
        return ModelFile(data, path.resolve().name, "saved-model/1")
    if not (path / "MLmodel").is_file() and (path / "config.json").is_file():
        return _classifier(config, model, path)
    file = _file_of(path) if path.is_dir() else path
    return ModelFile(_read(file, MAX_MODEL), path.resolve().name)


def _texts(spec: ModelSpec, categories: Mapping[str, Sequence[str]]) -> dict[int, Sequence[str]]:
    """Return the values of each text column by the place of the column."""
    places = accumulate((column.width for column in spec.columns), initial=0)
    pairs = zip(places, spec.columns, strict=False)
    return {
        place: categories[column.address] for place, column in pairs if column.address in categories
    }


def _file_of(folder: Path) -> Path:
    """Return the one file to adopt in a folder; only MLflow's have one."""
    if (folder / "MLmodel").is_file():
        return compose.mlflow_file(folder)
    raise ModelError(
        _("{path} is a folder of no kind that is known.", path=folder), _("Name a model's file.")
    )


def _classifier(config: Config, model: ModelSpec, folder: Path) -> ModelFile:
    """Read the folder of a text classifier, once the model is known to be one."""
    text = model.text
    if text is None:
        raise ModelError(
            _("{path} may be a text classifier, and {model} does not read one text alone.",
              path=folder, model=model.name),
            _("Define it as one: {example} Any other network is converted: {command}",
              example='fl.adopted("intents", features=[fl.request.param("text", str)], '
              "classes=intent, …).",
              command="optimum-cli export onnx --model FOLDER FOLDER_ONNX"),
        )  # fmt: skip
    parts, data = compose.classifier(folder)
    spec = parts.spec.classifier
    assert isinstance(spec, Classifier)
    if spec.output == "number" and len(spec.classes) == 1:
        item = ""
        if model.classes is not None:
            raise ModelError(
                _("{path} gives a number, and tells no classes apart.", path=folder),
                _("Take classes= out of the definition of {model}.", model=model.name),
            )
    elif model.classes is None:
        raise ModelError(
            _("{path} tells classes apart: {classes}.",
              path=folder, classes=", ".join(spec.classes[:20])),
            _('Define what they are, intent = fl.Entity("intent", str), and give {model} '
              "classes=intent.", model=model.name),
        )  # fmt: skip
    else:
        item = model.classes.name
    digest = digest_of(parts.spec)
    encoding = EncodingSpec(model.name, digest, parts.spec.dim, text)
    return ModelFile(
        data,
        folder.resolve().name,
        "text-classifier/1",
        ClassSpec(encoding, spec.classes, item),
        partial(write_encoder, config.encoders_path, parts),
    )


def read_categories(path: Path | None) -> dict[str, list[str]]:
    """Read the dictionaries of text columns, from a JSON file; nothing without one.

    Raises
    ------
    InputError
        If it cannot be read, or is no object of lists of texts.
    """
    if path is None:
        return {}
    try:
        found = json.loads(_read(path, MAX_DESCRIPTION))
    except ValueError as error:
        raise InputError(_("{path} is not JSON: {reason}.", path=path, reason=error)) from error
    if not isinstance(found, dict) or not all(
        isinstance(values, list) and all(isinstance(value, str) for value in values)
        for values in found.values()
    ):
        raise InputError(
            _("{path} holds no dictionaries.", path=path),
            '{"user_profile:city": ["上海", "北京"]}',
        )
    return found


def _read(path: Path, cap: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except OSError as error:
        raise InputError(
            _("{path} cannot be read: {reason}.", path=path, reason=error.strerror or error)
        ) from error
    if len(data) > cap:
        raise ModelError(
            _("{path} has more than {cap} bytes.", path=path, cap=cap),
            _("Serve it as an endpoint of its own, or make it smaller."),
        )
    return data
