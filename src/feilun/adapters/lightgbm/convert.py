"""From what a training function returns to the text that the gateway loads."""

from __future__ import annotations

from typing import Any

from feilun.adapters.lightgbm.text import check_model_text
from feilun.errors import MissingExtra, ModelError


def to_model_text(estimator: Any) -> bytes:
    """Return a trained LightGBM estimator or booster as ``lightgbm-text/1``.

    Called by training, once a turn; imports LightGBM, which takes seconds. The text holds the
    iterations that ``predict`` would use: up to the best one where training stopped early.

    Raises
    ------
    ModelError
        If it is something else, is not trained, gives more than one number a row, has linear
        trees, or has learned categories from pandas.
    MissingExtra
        If LightGBM is not installed.
    """
    try:
        import lightgbm  # seconds: in training only
    except ModuleNotFoundError as error:
        raise MissingExtra("LightGBM", "models") from error
    kind = f"{type(estimator).__module__}.{type(estimator).__qualname__}"
    if isinstance(estimator, lightgbm.LGBMModel):
        try:
            booster = estimator.booster_
        except Exception as error:
            raise ModelError(
                f"The training function returned a {kind} that is not trained.",
                "Call its fit(data.x, data.y) before returning it.",
            ) from error
    elif isinstance(estimator, lightgbm.Booster):
        booster = estimator
    else:
        raise ModelError(
            f"The training function returned a {kind}; the gateway runs LightGBM models only.",
            "Return an LGBMClassifier, LGBMRegressor, LGBMRanker or Booster trained on data.x. "
            "scikit-learn's HistGradientBoosting and XGBoost have LightGBM counterparts with the "
            "same parameters by other names.",
        )
    if booster.num_model_per_iteration() != 1:
        raise ModelError(
            f"The model gives {booster.num_model_per_iteration()} numbers a row; one is needed.",
            "Train a binary, regression or ranking objective.",
        )
    if booster.pandas_categorical:
        raise ModelError(
            "The model has learned its own codes of pandas categories.",
            "Train on data.x, whose codes the bundle keeps, with data.categorical.",
        )
    text: bytes = booster.model_to_string().encode()
    check_model_text(text, booster.num_feature())
    return text
