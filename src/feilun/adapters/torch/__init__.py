"""PyTorch: exported programs, read as data and run by a worker, operator by operator."""

from feilun.adapters.torch.loader import ExportedProgramLoader

__all__ = ["ExportedProgramLoader"]
