"""XGBoost: its UBJSON and JSON formats, loaded by its C library alone."""

from feilun.adapters.xgboost.loader import XgboostLoader, XgboostScorer

__all__ = ["XgboostLoader", "XgboostScorer"]
