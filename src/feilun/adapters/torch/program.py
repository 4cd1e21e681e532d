"""An exported program of PyTorch (``.pt2``), read as data.

PyTorch's own ``torch.export.load`` is never called: it unpickles sample inputs and some weights,
and evaluates expressions and guards out of the file. What is needed is plain: a list of operators
as JSON, and weights as bytes. Source of the format: ``torch/_export/serde/schema.py`` and
``torch/export/pt2_archive`` of PyTorch 2.13 (schema 8).
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy.typing as npt

from feilun.adapters.torch.archive import MAX_UNPACKED, read_files, require, strided
from feilun.errors import ModelError

SCHEMA = 8
MAX_STEPS = 10_000

OPERATORS = frozenset(
    """
    _softmax abs add addmm alias amax amin any arange argmax baddbmm batch_norm bitwise_and
    bitwise_not bitwise_or bmm cat chunk clamp clamp_max clamp_min clone concat contiguous cos
    cumsum detach div dropout einsum elu embedding eq erf exp expand expm1 feature_dropout
    flatten floor full full_like gather ge gelu group_norm gt hardsigmoid hardswish hardtanh
    index index_select instance_norm isfinite isinf isnan layer_norm le leaky_relu linear log
    log1p log_softmax logical_and logical_not logical_or logit logsumexp lt masked_fill matmul
    max maximum mean min minimum mish mm mul nan_to_num narrow ne neg new_full new_ones
    new_zeros norm one_hot ones ones_like permute pow prelu prod reciprocal relu relu6
    remainder repeat reshape rms_norm round rsqrt rsub scaled_dot_product_attention select
    selu sigmoid sign silu sin slice softmax softplus split split_with_sizes sqrt square
    squeeze stack std sub sum sym_size t tanh to topk transpose unbind unflatten unsqueeze var
    view where zeros zeros_like _to_copy _assert_tensor_metadata lift_fresh_copy
    """.split()  # noqa: SIM905  a word each, not a line
)
"""What a program may call of ATen: arithmetic on tensors, nothing that reaches beyond them."""

_WANTED = re.compile(r"models/[^/]+\.json|data/(weights|constants)/[^/]+")
_TARGET = re.compile(r"torch\.ops\.aten\.([a-z_0-9]+)\.([A-Za-z_0-9]+)")
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 12: "bool",
}  # fmt: skip
"""The numbers of ``ScalarType`` in the schema that are supported."""
_PLAIN: Mapping[str, type | tuple[type, ...]] = {
    "as_int": int,
    "as_float": (int, float),
    "as_bool": bool,
    "as_string": str,
}
_LISTS: Mapping[str, type | tuple[type, ...]] = {
    "as_ints": int,
    "as_floats": (int, float),
    "as_bools": bool,
    "as_strings": str,
}


class Ref(NamedTuple):
    """A value that an earlier step or the input has given."""

    name: str


class Dtype(NamedTuple):
    """A type of numbers, by NumPy's and PyTorch's name."""

    name: str


class Step(NamedTuple):
    """One operator: its name and overload, what goes in, and what comes out."""

    operator: str
    overload: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    outputs: tuple[str, ...]


class Program(NamedTuple):
    """Steps from ``input`` to ``output``, and what is constant."""

    constants: Mapping[str, npt.NDArray[Any]]
    input: str
    steps: tuple[Step, ...]
    output: str


def read_program(data: bytes, columns: int) -> Program:
    """Read a program with one float input ``[any number, columns]`` and one output.

    Raises
    ------
    ModelError
        If it is no such program, or calls anything but the operators that are known.
    """
    try:
        return _read(data, columns)
    except (
        ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError,
        zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError,
    ) as error:  # fmt: skip
        reason = f"no {error} in it" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"This exported program cannot be run: {reason[:300]}.",
            "Write torch.onnx.export(model, (x,), 'model.onnx', dynamo=True, external_data=False).",
        ) from error


def _read(data: bytes, columns: int) -> Program:
    files = read_files(data, _WANTED)
    models = [name for name in files if re.fullmatch(r"models/[^/]+\.json", name)]
    require(len(models) == 1, f"it holds {len(models)} programs")
    document = json.loads(files[models[0]])
    found = document["schema_version"]["major"]
    require(found == SCHEMA, f"it is of schema {found}; PyTorch 2.13 writes {SCHEMA}")
    module = document["graph_module"]
    graph = module["graph"]
    entry, stored = _inputs(module["signature"]["input_specs"])
    _check_input(graph["tensor_values"][entry], columns)
    constants = _constants(files, models[0].removeprefix("models/").removesuffix(".json"), stored)
    steps = tuple(_step(node) for node in graph["nodes"])
    require(len(steps) <= MAX_STEPS, "it has too many steps")
    (output,) = module["signature"]["output_specs"]
    require(set(output) == {"user_output"}, "it changes something besides its output")
    return Program(constants, entry, steps, str(output["user_output"]["arg"]["as_tensor"]["name"]))


def _inputs(specs: list[dict[str, Any]]) -> tuple[str, dict[str, str]]:
    """Return the name of the user's one input, and by name what each constant is stored as."""
    entries, stored = [], {}
    for spec in specs:
        ((kind, said),) = spec.items()
        if kind == "user_input":
            entries.append(said["arg"]["as_tensor"]["name"])
        else:
            keys = {
                "parameter": "parameter_name",
                "buffer": "buffer_name",
                "tensor_constant": "tensor_constant_name",
            }
            stored[said["arg"]["name"]] = said[keys[kind]]
    require(len(entries) == 1, f"it takes {len(entries)} inputs; one is needed")
    return entries[0], stored


def _check_input(value: dict[str, Any], columns: int) -> None:
    sizes = value["sizes"]
    require(
        len(sizes) == 2 and "as_int" not in sizes[0],
        "its input is not [any number, columns]; export it with a dynamic first dimension",
    )
    found = sizes[1].get("as_int")
    require(found == columns, f"it takes {found} columns, not {columns}")
    require(_DTYPES.get(value["dtype"]) == "float32", "its input is not float32")


def _constants(
    files: Mapping[str, bytes], model: str, stored: Mapping[str, str]
) -> dict[str, npt.NDArray[Any]]:
    known: dict[str, npt.NDArray[Any]] = {}
    size = 0
    for folder, kind in (("weights", "weights"), ("constants", "constants")):
        text = files.get(f"data/{folder}/{model}_{kind}_config.json", b'{"config": {}}')
        for name, payload in json.loads(text)["config"].items():
            require(not payload["use_pickle"], f"its {name} is a pickle")
            known[name] = _tensor(files[f"data/{folder}/{payload['path_name']}"], payload)
            size += known[name].nbytes  # many weights may lie in one file
            require(size <= MAX_UNPACKED, "its weights are too large")
    return {name: known[place] for name, place in stored.items()}


def _tensor(data: bytes, payload: dict[str, Any]) -> npt.NDArray[Any]:
    meta = payload["tensor_meta"]
    shape = [size["as_int"] for size in meta["sizes"]]
    strides = [stride["as_int"] for stride in meta["strides"]]
    return strided(data, _DTYPES[meta["dtype"]], shape, strides, meta["storage_offset"]["as_int"])


def _step(node: dict[str, Any]) -> Step:
    arguments, keywords = [], {}
    for each in node["inputs"]:
        if each["kind"] == 1:
            arguments.append(_argument(each["arg"]))
        else:
            keywords[str(each["name"])] = _argument(each["arg"])
    outputs = []
    for each in node["outputs"]:
        ((kind, said),) = each.items()
        if kind == "as_tensors":
            outputs.append([one["name"] for one in said])
        else:
            outputs.append(said.get("as_name") or said["name"])
    names = outputs[0] if outputs and isinstance(outputs[0], list) else outputs
    target = str(node["target"])
    match = _TARGET.fullmatch(target)
    require(
        match is not None and match[1] in OPERATORS,
        f"it calls {target[:80]}, which is not among the operators that are known",
    )
    assert match is not None
    return Step(match[1], match[2], tuple(arguments), keywords, tuple(map(str, names)))


def _argument(said: dict[str, Any]) -> Any:  # noqa: PLR0911  one line for each kind
    ((kind, value),) = said.items()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return Ref(str(value["name"]))
    if kind in ("as_tensors", "as_optional_tensors"):
        return [
            _argument(each) if set(each) <= {"as_tensor", "as_none"} else Ref(str(each["name"]))
            for each in value
        ]
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        ((inner, name),) = value.items()
        return Ref(str(name)) if inner == "as_name" else _plain(inner, name)
    if kind == "as_sym_ints":
        return [_argument({"as_sym_int": each}) for each in value]
    if kind == "as_scalar_type":
        return Dtype(_DTYPES[value])
    if kind in ("as_device", "as_layout", "as_memory_format"):
        return None  # everything is dense and on the processor
    if kind in _LISTS:
        require(all(isinstance(each, _LISTS[kind]) for each in value), f"{kind} holds others")
        return list(value)
    return _plain(kind, value)


def _plain(kind: str, value: Any) -> Any:
    require(kind in _PLAIN, f"it has an argument of the kind {kind[:40]}")
    if value in ("Infinity", "-Infinity", "NaN"):
        return float(value)
    require(isinstance(value, _PLAIN[kind]), f"{kind} holds something else")
    return value
