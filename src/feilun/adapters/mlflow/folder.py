"""A model's folder as MLflow logs it: read as data, for the file that its own library wrote.

Nothing of MLflow's is imported, which would take seconds; and nothing in the folder is run: neither
``python_function`` nor a pickle is looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feilun.errors import MissingExtra, ModelError
from feilun.i18n import _

DESCRIPTION = "MLmodel"
MAX_DESCRIPTION = 1 << 20
FLAVORS = {
    "lightgbm": "mlflow.lightgbm.log_model(model.booster_, name='model')",
    "xgboost": "mlflow.xgboost.log_model(model, name='model', model_format='ubj')",
    "onnx": "mlflow.onnx.log_model(model, name='model', save_as_external_data=False)",
}
"""The flavours whose own file can be adopted, and how to log a model in each."""


def native_file(folder: Path) -> Path:
    """Return the file in an MLflow model's folder that holds the model in its own format.

    Raises
    ------
    ModelError
        If the folder has no such flavour, or its description is not sound; with the way to log it.
    MissingExtra
        If PyYAML is not installed, which comes with MLflow.
    """
    flavors = _description(folder).get("flavors")
    if not isinstance(flavors, dict):
        raise ModelError(
            _("{path} names no flavors.", path=folder / DESCRIPTION), _("Log the model again.")
        )
    name = next((each for each in FLAVORS if each in flavors), None)
    if name is None:
        raise ModelError(
            _(
                "The MLflow model in {folder} has the flavors {names}; what they load runs code.",
                folder=folder,
                names=", ".join(map(str, flavors)),
            ),
            _(
                "Log it in its own format where it was trained: {ways}",
                ways="; ".join(FLAVORS.values()),
            ),
        )
    flavor = flavors[name]
    data = flavor.get("data") if isinstance(flavor, dict) else None
    if not isinstance(data, str):
        raise ModelError(
            _("The flavor {name} in {folder} names no file.", name=name, folder=folder),
            _("Log it again: {way}", way=FLAVORS[name]),
        )
    path = (folder / data).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ModelError(
            _("The flavor {name} names a file outside {folder}.", name=name, folder=folder),
            _("Do not trust it."),
        )
    if not path.is_file():
        raise ModelError(
            _("{folder} has no file {name}.", folder=folder, name=data),
            _("Log it again: {way}", way=FLAVORS[name]),
        )
    return path


def _description(folder: Path) -> dict[str, Any]:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingExtra("PyYAML", "models") from error
    path = folder / DESCRIPTION
    try:
        with path.open("rb") as file:
            text = file.read(MAX_DESCRIPTION + 1)
        if len(text) > MAX_DESCRIPTION:
            raise ModelError(
                _("{path} has more than {cap} bytes.", path=path, cap=MAX_DESCRIPTION),
                _("Log the model again."),
            )
        # Aliases let a small file stand for a huge one; MLflow writes none.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)):
            raise ModelError(
                _("{path} has aliases, which MLflow does not write.", path=path),
                _("Log the model again."),
            )
        found = yaml.safe_load(text)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(
            _("{path} cannot be read: {reason}.", path=path, reason=error),
            _("Log the model again."),
        ) from error
    return found if isinstance(found, dict) else {}
