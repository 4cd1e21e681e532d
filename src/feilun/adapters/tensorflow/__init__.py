"""TensorFlow: SavedModels, read as data, run operator by operator in NumPy."""

from feilun.adapters.tensorflow.folder import pack
from feilun.adapters.tensorflow.loader import SavedModelLoader

__all__ = ["SavedModelLoader", "pack"]
