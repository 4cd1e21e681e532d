"""Runs the functions of a script, statement by statement.

What an operator does is the caller's to say, but for plain numbers, texts and lists: those are
computed here, as TorchScript does.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from feilun.adapters.torch.pickled import ScriptObject
from feilun.adapters.torch.script import Script
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

_PLAIN = (int, float, str, list, tuple, type(None))  # bool is an int
_GOES_ON: Final = object()


def _format(text: str, *values: Any) -> str:
    for value in values:
        text = text.replace("{}", str(value), 1)
    return text


def _append(items: list[Any], value: Any) -> list[Any]:
    items.append(value)
    return items


PLAIN: Mapping[str, Callable[..., Any]] = {
    "__and__": operator.and_,
    "__contains__": operator.contains,
    "__getitem__": operator.getitem,
    "__not__": operator.not_,
    "__or__": operator.or_,
    "__xor__": operator.xor,
    "abs": abs,
    "add": operator.add,
    "append": _append,
    "ceil": math.ceil,
    "div": operator.truediv,
    "eq": operator.eq,
    "exp": math.exp,
    "floor": math.floor,
    "floordiv": operator.floordiv,
    "format": _format,
    "ge": operator.ge,
    "gt": operator.gt,
    "insert": lambda items, place, value: items.insert(place, value),
    "le": operator.le,
    "len": len,
    "list": list,
    "log": math.log,
    "lt": operator.lt,
    "max": max,
    "min": min,
    "mul": operator.mul,
    "ne": operator.ne,
    "neg": operator.neg,
    "pop": lambda items, place=-1: items.pop(place),
    "pow": operator.pow,
    "prim.max": max,
    "prim.min": min,
    "remainder": operator.mod,
    "round": round,
    "sqrt": math.sqrt,
    "sub": operator.sub,
}
"""Operators of plain values; where a tensor is among them, the caller's are asked."""
_OF_ANYTHING: Mapping[str, Callable[..., Any]] = {
    "__is__": operator.is_,
    "__isnot__": operator.is_not,
    "ScalarImplicit": lambda tensor: tensor.item(),
    "item": lambda tensor: tensor.item(),
    "str": str,
    **dict.fromkeys(("Bool", "bool"), bool),
    **dict.fromkeys(("Float", "FloatImplicit", "float"), float),
    **dict.fromkeys(("Int", "IntImplicit", "int"), int),
    **{name: PLAIN[name] for name in ("append", "insert", "list", "format")},
}


class Interpreter:
    """Calls methods of a script.

    Parameters
    ----------
    script : Script
        What may be called.
    constants : sequence
        Its constants, as tensors.
    operators : callable
        Gives what an operator of tensors does, by its name.
    """

    def __init__(
        self,
        script: Script,
        constants: Sequence[Any],
        operators: Callable[[str], Callable[..., Any]],
    ) -> None:
        self._functions = script.functions
        self._constants = constants
        self._operators = operators

    def call(self, method: str, of: ScriptObject, *arguments: Any) -> Any:
        """Return what a method gives.

        Raises
        ------
        ModelError
            If the script raises something itself.
        """
        return self._run(f"{of.kind}.{method}", (of, *arguments))

    def _run(self, name: str, arguments: tuple[Any, ...]) -> Any:
        function: Function = self._functions[name]
        missing = len(function.parameters) - len(arguments)
        given = function.defaults[len(function.defaults) - missing :] if missing else ()
        values = (*arguments, *(self._value(each, {}) for each in given))
        found = self._block(function.body, dict(zip(function.parameters, values, strict=True)))
        return None if found is _GOES_ON else found

    def _block(self, statements: tuple[Statement, ...], names: dict[str, Any]) -> Any:
        """Return what is returned; ``_GOES_ON`` where nothing is."""
        for statement in statements:
            match statement:
                case Assign(targets, unpack, value):
                    found = self._value(value, names)
                    names.update(zip(targets, found if unpack else (found,), strict=True))
                case Do(value):
                    self._value(value, names)
                case Return(value):
                    return self._value(value, names)
                case If(test, then, otherwise):
                    block = then if self._value(test, names) else otherwise
                    if (found := self._block(block, names)) is not _GOES_ON:
                        return found
                case For(name, times, body):
                    for place in range(self._value(times, names)):
                        names[name] = place
                        if (found := self._block(body, names)) is not _GOES_ON:
                            return found
                case While(test, body):
                    while self._value(test, names):
                        if (found := self._block(body, names)) is not _GOES_ON:
                            return found
        return _GOES_ON

    def _value(self, expression: Expression, names: dict[str, Any]) -> Any:  # noqa: PLR0911  one for each kind
        match expression:
            case Name(name):
                if name not in names:
                    raise ModelError(f"The script has no {name!r}.")
                return names[name]
            case Literal(value):
                return value
            case Constant(place):
                return self._constants[place]
            case FunctionName():
                return expression
            case Attribute(of, name):
                return self._object(of, names).attributes[name]
            case Items(items, is_list):
                found = [self._value(each, names) for each in items]
                return found if is_list else tuple(found)
            case Call(name, arguments, keywords):
                values = [self._value(each, names) for each in arguments]
                named = {key: self._value(each, names) for key, each in keywords.items()}
                return self._call(name, values, named)
            case Method(of, name, arguments):
                made = self._object(of, names)
                values = [self._value(each, names) for each in arguments]
                return self._run(f"{made.kind}.{name}", (made, *values))
            case Apply(function, arguments):
                called = self._value(function, names)
                if not isinstance(called, FunctionName):
                    raise ModelError("The script calls what is no function.")
                return self._run(called.name, tuple(self._value(e, names) for e in arguments))

    def _object(self, of: Expression, names: dict[str, Any]) -> ScriptObject:
        found = self._value(of, names)
        if not isinstance(found, ScriptObject):
            raise ModelError("The script takes an attribute of what is no module.")
        return found

    def _call(self, name: str, values: list[Any], named: dict[str, Any]) -> Any:
        if name == "prim.RaiseException":
            raise ModelError(f"The script raises: {str(values[0])[:200]}")
        if name in _OF_ANYTHING:
            return _OF_ANYTHING[name](*values)
        if name in PLAIN and not named and all(isinstance(value, _PLAIN) for value in values):
            return PLAIN[name](*values)
        return self._operators(name)(*values, **named)
