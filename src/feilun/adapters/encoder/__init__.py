"""Encoders and classifiers of texts: tokens, a network, pooling or classes.

Their networks run in a process of their own.
"""

from feilun.adapters.encoder.classifier import ClassifierLoader, describe
from feilun.adapters.encoder.loader import load_encoder

__all__ = ["ClassifierLoader", "describe", "load_encoder"]
