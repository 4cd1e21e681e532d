"""PyTorch: exported programs and TorchScript, read as data, run operator by operator."""

from feilun.adapters.torch.loader import ExportedProgramLoader, ScriptLoader

__all__ = ["ExportedProgramLoader", "ScriptLoader"]
