"""The worker that runs exported programs: the only place where PyTorch is imported."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from feilun.adapters.torch.program import Dtype, Program, Ref, Step, read_program
from feilun.adapters.worker import serve
from feilun.errors import ModelError


class ProgramScorer:
    """Runs a program, one operator after the other."""

    def __init__(self, program: Program) -> None:
        self._input, self._output = program.input, program.output
        self._constants = {
            name: torch.from_numpy(np.ascontiguousarray(value))
            for name, value in program.constants.items()
        }
        self._steps = [(_operator(step), step) for step in program.steps]

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row.

        Raises
        ------
        ModelError
            If the output is something else.
        """
        values: dict[str, Any] = {**self._constants, self._input: torch.from_numpy(matrix.copy())}
        with torch.inference_mode():
            for operator, step in self._steps:
                arguments = [_value(each, values) for each in step.arguments]
                keywords = {name: _value(each, values) for name, each in step.keywords.items()}
                _keep(step, operator(*arguments, **keywords), values)
        found = values[self._output].numpy()
        rows = len(matrix)
        if found.shape not in ((rows,), (rows, 1)):
            raise ModelError(f"The program gave numbers of shape {found.shape} for {rows} rows.")
        return np.ascontiguousarray(found.reshape(rows), np.float64)


def _operator(step: Step) -> Any:
    packet = getattr(torch.ops.aten, step.operator, None)
    found = getattr(packet, step.overload, None)
    if not isinstance(found, torch._ops.OpOverload):
        raise ModelError(f"This PyTorch has no operator {step.operator}.{step.overload}.")
    return found


def _value(argument: Any, values: dict[str, Any]) -> Any:
    if isinstance(argument, Ref):
        return values[argument.name]
    if isinstance(argument, Dtype):
        return getattr(torch, argument.name)
    if isinstance(argument, list):
        return [_value(each, values) for each in argument]
    return argument


def _keep(step: Step, result: Any, values: dict[str, Any]) -> None:
    if len(step.outputs) == 1 and not isinstance(result, list | tuple):
        values[step.outputs[0]] = result
    else:
        results = result if isinstance(result, list | tuple) else ()
        values.update(zip(step.outputs, results, strict=True))


def load(data: bytes, columns: int) -> ProgramScorer:
    """Load a program."""
    return ProgramScorer(read_program(data, columns))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    serve(load)
