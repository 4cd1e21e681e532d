"""ONNX: graphs run by ONNX Runtime on the processor, nothing but what the file itself holds."""

from feilun.adapters.onnx.loader import OnnxLoader, OnnxScorer, open_session

__all__ = ["OnnxLoader", "OnnxScorer", "open_session"]
