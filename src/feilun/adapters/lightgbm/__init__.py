"""LightGBM: its text format, loaded by its C library alone, and the conversion to it."""

from feilun.adapters.lightgbm.convert import to_model_text
from feilun.adapters.lightgbm.loader import LightGbmLoader, LightGbmScorer

__all__ = ["LightGbmLoader", "LightGbmScorer", "to_model_text"]
