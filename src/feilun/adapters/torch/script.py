"""A TorchScript file (``torch.jit.save``), read as data.

PyTorch's own ``torch.jit.load`` is never called: it has no safe mode, as PyTorch says itself
(``SECURITY.md``: like code from an unknown source), and it runs methods of the file while loading.
What is needed is plain: sources in a small part of Python's grammar, which are parsed and never
run, and weights as bytes. A source becomes the expressions and statements of ``syntax``; what is
not known, and an operator that is on no list, has none there. Source of the format:
``torch/csrc/jit/serialization/python_print.cpp`` of PyTorch 2.13.
"""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from feilun.adapters.torch.archive import read_files, require
from feilun.adapters.torch.pickled import ScriptObject, read_pickle
from feilun.adapters.torch.program import OPERATORS
from feilun.adapters.torch.syntax import (
    Apply,
    Assign,
    Attribute,
    Call,
    Constant,
    Do,
    Expression,
    For,
    Function,
    FunctionName,
    If,
    Items,
    Literal,
    Method,
    Name,
    Return,
    Statement,
    While,
)
from feilun.errors import ModelError

MAX_SOURCE = 4 << 20

SCRIPT_OPERATORS = OPERATORS | frozenset(
    """
    acos adaptive_avg_pool1d adaptive_avg_pool2d addcdiv addcmul addmv all argmin argsort asin
    atan atan2 avg_pool1d avg_pool2d Bool cdist ceil celu constant_pad_nd conv1d conv2d
    conv_transpose1d _convolution copy cosh cosine_similarity cumprod diff dim dot expand_as
    fill flip Float FloatImplicit floor_divide frac glu gru hardshrink hstack index_put Int
    IntImplicit is_floating_point isin item lerp log10 log2 log_sigmoid logaddexp lstm
    masked_select max_pool1d max_pool2d mv _native_multi_head_attention numel outer pad
    pairwise_distance reshape_as rnn_relu rnn_tanh roll scalar_tensor ScalarImplicit scatter
    scatter_add sgn sinh size softshrink sort sum_to_size swapaxes swapdims tan tanhshrink
    tensor threshold to _transformer_encoder_layer_fwd tril triu trunc type_as unfold view_as
    vstack zero
    """.split()  # noqa: SIM905  a word each, not a line
)
"""What a script may call of ATen: arithmetic on tensors, nothing that reaches beyond them."""
PLAIN_OPERATORS = frozenset(
    """
    __and__ __contains__ __getitem__ __is__ __isnot__ __not__ __or__ __xor__ abs add append ceil
    div eq exp floor floordiv format ge gt insert le len list log lt max min mul ne neg pop pow
    prim.max prim.min remainder round sqrt sub
    """.split()  # noqa: SIM905  a word each, not a line
)
"""What a script may call on plain numbers, texts and lists."""
OTHER_OPERATORS = frozenset(
    """
    device is_autocast_enabled is_grad_enabled prim.NumToTensor prim.RaiseException prim.device
    prim.dtype prim.is_cpu prim.is_cuda prim.is_nested prim.requires_grad
    prim.type warn
    """.split()  # noqa: SIM905  a word each, not a line
)
"""What a script may ask besides: where it runs, and how."""
CONVERSIONS = frozenset({"bool", "float", "int", "str"})
_CASTS = frozenset({"annotate", "unchecked_cast"})
_WANTED = re.compile(r"data\.pkl|constants\.pkl|(data|constants)/\d+|code/[\w/]+\.py")
_SQUEEZED = re.compile(r"code/[\w/]+\.py")


class Script(NamedTuple):
    """The functions that ``forward`` may reach, by their names, the module, and constants."""

    functions: Mapping[str, Function]
    module: ScriptObject
    constants: tuple[Any, ...]


def read_script(data: bytes) -> Script:
    """Read a script whose module has a ``forward`` of one argument.

    Raises
    ------
    ModelError
        If it is no such script, or does anything that is not known.
    """
    try:
        return _read(data)
    except (
        ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError,
        SyntaxError, MemoryError, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError,
        EOFError,
    ) as error:  # fmt: skip
        reason = f"no {error} in it" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"This TorchScript file cannot be run: {reason[:300]}.",
            "Write torch.onnx.export(model, (x,), 'model.onnx', dynamo=True, external_data=False).",
        ) from error


def _read(data: bytes) -> Script:
    files = read_files(data, _WANTED, _SQUEEZED)
    sources = {name: text for name, text in files.items() if name.startswith("code/")}
    require(sum(map(len, sources.values())) <= MAX_SOURCE, "its sources are too long")
    root = read_pickle(files["data.pkl"], _below(files, "data/"))
    require(isinstance(root, ScriptObject), "it holds no module")
    require(root.attributes.get("training") is not True, "it is still training; call model.eval()")
    constants = read_pickle(files["constants.pkl"], _below(files, "constants/"))
    found = _reachable(_definitions(sources), f"{root.kind}.forward")
    entry = found[f"{root.kind}.forward"]
    needed = len(entry.parameters) - len(entry.defaults)
    require(needed <= 2 <= len(entry.parameters), "its forward takes more than one input")
    require(type(constants) is tuple, "its constants are none")
    return Script(found, root, constants)


def _below(files: Mapping[str, bytes], folder: str) -> dict[str, bytes]:
    return {
        name.removeprefix(folder): data for name, data in files.items() if name.startswith(folder)
    }


def _definitions(sources: Mapping[str, bytes]) -> dict[str, ast.FunctionDef]:
    """Return every function and method, by its full name."""
    found = {}
    for path, source in sources.items():
        module = path.removeprefix("code/").removesuffix(".py").replace("/", ".")
        for node in ast.parse(source.decode()).body:
            inner = node.body if isinstance(node, ast.ClassDef) else [node]
            prefix = f"{module}.{node.name}" if isinstance(node, ast.ClassDef) else module
            for each in inner:
                if isinstance(each, ast.FunctionDef):
                    found[f"{prefix}.{each.name}"] = each
    return found


def _reachable(definitions: Mapping[str, ast.FunctionDef], entry: str) -> dict[str, Function]:
    """Return what may be called from ``entry``; of a method, those of every class."""
    methods: dict[str, list[str]] = {}
    for name in definitions:
        methods.setdefault(name.rpartition(".")[2], []).append(name)
    found: dict[str, Function] = {}
    ahead = [entry]
    while ahead:
        name = ahead.pop()
        if name in found:
            continue
        reader = _FunctionReader()
        found[name] = reader.function(definitions[name])
        ahead += reader.functions
        for method in reader.methods:
            ahead += methods.get(method, [])
    return found


class _FunctionReader:
    """Makes our types of one function's syntax, and notes what it calls."""

    def __init__(self) -> None:
        self.functions: set[str] = set()
        self.methods: set[str] = set()

    def function(self, node: ast.FunctionDef) -> Function:
        said = node.args
        plain = not (said.vararg or said.kwarg or said.kwonlyargs or said.posonlyargs)
        require(plain and not node.decorator_list, f"its {node.name} takes unknown arguments")
        return Function(
            tuple(each.arg for each in said.args),
            tuple(self._expression(each) for each in said.defaults),
            self._block(node.body),
        )

    def _block(self, nodes: list[ast.stmt]) -> tuple[Statement, ...]:
        return tuple(found for node in nodes for found in self._statement(node))

    def _statement(self, node: ast.stmt) -> Iterator[Statement]:
        match node:
            case ast.Pass():
                return
            case ast.Assign(targets=[target], value=value):
                yield self._assign(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield self._assign(target, value)
            case ast.Expr(value=value):
                yield Do(self._expression(value))
            case ast.Return(value=value):
                yield Return(Literal(None) if value is None else self._expression(value))
            case ast.If(test=test, body=body, orelse=orelse):
                yield If(self._expression(test), self._block(body), self._block(orelse))
            case ast.While(test=test, body=body, orelse=[]):
                yield While(self._expression(test), self._block(body))
            case ast.For(
                target=ast.Name(id=name),
                iter=ast.Call(func=ast.Name(id="range"), args=[count], keywords=[]),
                body=body,
                orelse=[],
            ):
                yield For(name, self._expression(count), self._block(body))
            case _:
                raise ValueError(f"it does what is not known: {_shown(node)}")

    def _assign(self, target: ast.expr, value: ast.expr) -> Assign:
        match target:
            case ast.Name(id=name):
                return Assign((name,), False, self._expression(value))
            case ast.Tuple(elts=elements) if all(isinstance(e, ast.Name) for e in elements):
                names = tuple(each.id for each in elements if isinstance(each, ast.Name))
                return Assign(names, True, self._expression(value))
        raise ValueError(f"it changes {_shown(target)}")

    def _expression(self, node: ast.expr) -> Expression:  # noqa: PLR0911  one for each kind
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return Literal(value)
            case ast.Name(id="inf" | "nan" as name):
                return Literal(float(name))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                found = self._expression(operand)
                if isinstance(found, Literal) and isinstance(found.value, int | float):
                    return Literal(-found.value)
            case ast.List(elts=elements):
                return Items(self._expressions(elements), True)
            case ast.Tuple(elts=elements):
                return Items(self._expressions(elements), False)
            case ast.Name(id=name):
                return Name(name)
            case ast.Subscript(value=of, slice=index):
                return Call("__getitem__", self._expressions([of, index]), {})
            case ast.Attribute(value=ast.Name(id="CONSTANTS"), attr=name):
                return Constant(int(name.removeprefix("c")))
            case ast.Attribute(value=of, attr=name):
                return self._function(node) or Attribute(self._expression(of), name)
            case ast.Call():
                return self._call(node)
        raise ValueError(f"it computes what is not known: {_shown(node)}")

    def _expressions(self, nodes: list[ast.expr]) -> tuple[Expression, ...]:
        return tuple(self._expression(each) for each in nodes)

    def _function(self, node: ast.expr) -> FunctionName | None:
        """Return a function of the file that is meant; None if it is something else."""
        name = _dotted(node)
        if not name.startswith("__torch__."):
            return None
        self.functions.add(name)
        return FunctionName(name)

    def _call(self, node: ast.Call) -> Expression:  # noqa: PLR0911  one for each kind
        keywords = {str(each.arg): self._expression(each.value) for each in node.keywords}
        name = _dotted(node.func)
        if name in _CASTS:
            return self._expression(node.args[1])
        if name == "uninitialized":
            return Literal(None)
        arguments = self._expressions(node.args)
        for prefix in ("torch.", "ops.aten.", "ops."):
            if name.startswith(prefix):
                return Call(_known(name.removeprefix(prefix)), arguments, keywords)
        require(not keywords, f"it calls {name[:80]} with names")
        if name == "getattr":
            return Attribute(self._expression(node.args[0]), ast.literal_eval(node.args[1]))
        if name in CONVERSIONS:
            return Call(name, arguments, {})
        if name.startswith("__torch__.") or isinstance(node.func, ast.Name):
            return Apply(self._expression(node.func), arguments)
        if isinstance(node.func, ast.Attribute):
            self.methods.add(node.func.attr)
            return Method(self._expression(node.func.value), node.func.attr, arguments)
        raise ValueError(f"it calls what is not known: {_shown(node)}")


def _known(operator: str) -> str:
    aten = operator if operator in SCRIPT_OPERATORS else operator.removesuffix("_")
    known = aten in SCRIPT_OPERATORS or operator in PLAIN_OPERATORS | OTHER_OPERATORS
    require(known, f"it calls {operator[:80]}, which is not among the operators that are known")
    return operator


def _dotted(node: ast.expr) -> str:
    """Return a name with dots; nothing if it is something else."""
    if isinstance(node, ast.Attribute):
        of = _dotted(node.value)
        return f"{of}.{node.attr}" if of else ""
    return node.id if isinstance(node, ast.Name) else ""


def _shown(node: ast.AST) -> str:
    return ast.unparse(node)[:80]
