"""Text encoders: tokens, a network, pooling. They run in a process of their own."""

from feilun.adapters.encoder.loader import load_encoder

__all__ = ["load_encoder"]
