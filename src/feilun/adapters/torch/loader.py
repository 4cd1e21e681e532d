"""Models of PyTorch, run in a worker: the gateway never imports PyTorch."""

from __future__ import annotations

import importlib.util
import sys

from feilun.adapters.torch.program import read_program
from feilun.adapters.worker import WorkerScorer
from feilun.errors import MissingExtra

_WORKER = (sys.executable, "-I", "-m", "feilun.adapters.torch.worker")


class ExportedProgramLoader:
    """Loads ``torch-export/1``: what ``torch.export.save`` writes."""

    format = "torch-export/1"
    waits = True

    def load(self, data: bytes, columns: int) -> WorkerScorer:
        """Load a program of ``columns`` columns in a worker; importing PyTorch takes seconds.

        Raises
        ------
        ModelError
            If it is no such program, or calls anything but the operators that are known.
        MissingExtra
            If PyTorch is not installed.
        """
        read_program(data, columns)
        _need_torch()
        return WorkerScorer((*_WORKER, "program"), data, columns)

    def column_names(self, data: bytes) -> tuple[str, ...]:  # noqa: ARG002  it takes a matrix
        """Return nothing: its input is a matrix."""
        return ()


class ScriptLoader:
    """Loads ``torchscript/1``: what ``torch.jit.save`` writes."""

    format = "torchscript/1"
    waits = True

    def load(self, data: bytes, columns: int) -> WorkerScorer:
        """Load a script of ``columns`` columns in a worker, which alone parses it.

        Raises
        ------
        ModelError
            If it is no such script, calls anything but the operators that are known, or cannot
            score two rows of so many columns.
        MissingExtra
            If PyTorch is not installed.
        """
        _need_torch()
        return WorkerScorer((*_WORKER, "script"), data, columns)

    def column_names(self, data: bytes) -> tuple[str, ...]:  # noqa: ARG002  it takes a matrix
        """Return nothing: its input is a matrix."""
        return ()


def _need_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("PyTorch", "torch")
