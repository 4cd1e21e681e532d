"""The worker that runs exported programs and scripts: the only place where PyTorch is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from feilun.adapters.torch.interpreter import Interpreter
from feilun.adapters.torch.pickled import ScriptObject
from feilun.adapters.torch.program import Dtype, Program, Ref, Step, read_program
from feilun.adapters.torch.script import Script, read_script
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
        return _scores(values[self._output], len(matrix))


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


def _scores(output: Any, rows: int) -> npt.NDArray[np.float64]:
    if not isinstance(output, torch.Tensor) or output.shape not in ((rows,), (rows, 1)):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else "none"
        raise ModelError(f"The model gave numbers of shape {shape} for {rows} rows.")
    return np.ascontiguousarray(output.numpy().reshape(rows), np.float64)


class ScriptScorer:
    """Runs the ``forward`` of a script, whose weights must stay as they are in the file."""

    def __init__(self, script: Script) -> None:
        self._weights: list[torch.Tensor] = []
        self._known: dict[int, Any] = {}
        self._module = self._tensors(script.module)
        constants = self._tensors(script.constants)
        self._interpreter = Interpreter(script, constants, _operator_of_script)

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row.

        Raises
        ------
        ModelError
            If the output is something else, or the script changes its own weights.
        """
        with torch.no_grad():  # inference_mode would not count changes
            output = self._interpreter.call(
                "forward", self._module, torch.from_numpy(matrix.copy())
            )
        if any(weight._version for weight in self._weights):
            raise ModelError("The script changes its own weights.")
        return _scores(output, len(matrix))

    def _tensors(self, value: Any) -> Any:
        """Return a value with tensors for arrays; what is shared stays shared."""
        if id(value) in self._known:
            return self._known[id(value)]
        found = value
        if isinstance(value, np.ndarray):
            found = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
            self._weights.append(found)
        elif isinstance(value, ScriptObject):
            attributes = {name: self._tensors(each) for name, each in value.attributes.items()}
            found = ScriptObject(value.kind, attributes)
        elif isinstance(value, list | tuple):
            found = type(value)(self._tensors(each) for each in value)
        self._known[id(value)] = found
        return found


def _tensor(value: Any, dtype: int | None = None, **_: Any) -> Any:
    """Return ``aten::tensor``, of which PyTorch would take the overload for booleans."""
    found = torch.tensor(value)
    return found if dtype is None else torch.ops.aten.to(found, dtype)


_OTHER: Mapping[str, Callable[..., Any]] = {
    "device": lambda *_: torch.device("cpu"),
    "is_autocast_enabled": lambda *_: False,
    "is_grad_enabled": lambda *_: False,
    "prim.NumToTensor": torch.tensor,
    "prim.device": lambda tensor: tensor.device,
    "prim.dtype": torch.ops.prim.dtype,
    "prim.is_cpu": lambda _: True,
    "prim.is_cuda": lambda _: False,
    "prim.is_nested": lambda _: False,
    "prim.requires_grad": lambda _: False,
    "prim.type": lambda device: device.type,
    "tensor": _tensor,
    "warn": lambda *_, **__: None,
}
"""What is no operator of ATen, or tells of another place and way to run than this one."""


@cache
def _operator_of_script(name: str) -> Callable[..., Any]:
    found = _OTHER.get(name) or getattr(torch.ops.aten, name, None)
    if found is None:
        raise ModelError(f"This PyTorch has no operator {name}.")
    return found


def load_program(data: bytes, columns: int) -> ProgramScorer:
    """Load an exported program."""
    return ProgramScorer(read_program(data, columns))


def load_script(data: bytes, columns: int) -> ScriptScorer:
    """Load a script, and score two rows: it does not say itself how many columns it takes."""
    scorer = ScriptScorer(read_script(data))
    scorer.score(np.zeros((2, columns), np.float32))
    return scorer


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    serve(load_script if sys.argv[1:] == ["script"] else load_program)
