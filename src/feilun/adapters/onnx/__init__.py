"""ONNX: graphs run by ONNX Runtime on the processor, nothing but what the file itself holds."""

from feilun.adapters.onnx.loader import OnnxLoader, OnnxScorer

__all__ = ["OnnxLoader", "OnnxScorer"]
