"""Operators of TensorFlow, in NumPy: number by number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from feilun.adapters.tensorflow.messages import Array, Attributes, dtype_of

_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772


def _divide(left: Array, right: Array) -> Array:
    """Return a quotient; of whole numbers what is left without its fraction."""
    if left.dtype.kind in "iu":
        return np.asarray((left - np.fmod(left, _not_nought(right))) // right)
    return np.asarray(left / right)


def _not_nought(right: Array) -> Array:
    """Return a divisor. NumPy would say 0 where TensorFlow fails."""
    if right.dtype.kind in "iu" and not np.all(right):
        raise ValueError("a whole number is divided by 0")
    return right


def _no_nan(combine: Callable[..., Any]) -> Callable[[Array, Array], Array]:
    """Return an operator that gives 0 wherever its second input is 0."""
    return lambda left, right: np.where(right == 0, np.zeros((), left.dtype), combine(left, right))


def _sigmoid(x: Array) -> Array:
    half = x.dtype.type(0.5)
    return np.asarray(half * (np.tanh(half * x) + 1))


def _softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _selu(x: Array) -> Array:
    kind = x.dtype.type
    return np.asarray(
        kind(_SELU_SCALE) * np.where(x > 0, x, kind(_SELU_ALPHA) * np.expm1(np.minimum(x, 0)))
    )


_ERF = np.frompyfunc(math.erf, 1, 1)


def _erf(x: Array) -> Array:
    """Return the error function: a quotient of polynomials for float32, as Eigen has it."""
    if x.dtype != np.float32:
        return np.asarray(_ERF(x)).astype(x.dtype)
    inside = np.clip(x, -4, 4).astype(np.float64)
    square = inside * inside
    above = np.polyval(
        (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06,
         -5.69250639462346e-05, -7.34990630326855e-04, -2.95459980854025e-03,
         -1.60960333262415e-02), square,
    )  # fmt: skip
    below = np.polyval(
        (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03,
         -7.37332916720468e-03, -1.42647390514189e-02), square,
    )  # fmt: skip
    return np.asarray(inside * above / below).astype(np.float32)


def _add_all(*inputs: Array) -> Array:
    return np.asarray(sum(inputs[1:], inputs[0]))


def _select(condition: Array, then: Array, otherwise: Array) -> Array:
    """Return the old choice, whose condition may be one for each row."""
    if condition.ndim == 1 and then.ndim > 1:
        condition = condition.reshape(-1, *[1] * (then.ndim - 1))
    return np.where(condition, then, otherwise)


PLAIN: Mapping[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Add": np.add,
    "AddN": _add_all,
    "AddV2": np.add,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atan2": np.arctan2,
    "Atanh": np.arctanh,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "Ceil": np.ceil,
    "ClipByValue": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Div": _divide,
    "DivNoNan": _no_nan(np.divide),
    "Elu": _elu,
    "Equal": np.equal,
    "Erf": _erf,
    "Erfc": lambda x: 1 - _erf(x),
    "Exp": np.exp,
    "Expm1": np.expm1,
    "Floor": np.floor,
    "FloorDiv": lambda left, right: np.floor_divide(left, _not_nought(right)),
    "FloorMod": lambda left, right: np.mod(left, _not_nought(right)),
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Inv": lambda x: x.dtype.type(1) / x,
    "Invert": np.invert,
    "IsFinite": np.isfinite,
    "IsInf": np.isinf,
    "IsNan": np.isnan,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "Log": np.log,
    "Log1p": np.log1p,
    "LogicalAnd": np.logical_and,
    "LogicalNot": np.logical_not,
    "LogicalOr": np.logical_or,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mod": lambda left, right: np.fmod(left, _not_nought(right)),
    "Mul": np.multiply,
    "MulNoNan": _no_nan(np.multiply),
    "Neg": np.negative,
    "NotEqual": np.not_equal,
    "Pow": np.power,
    "RealDiv": np.true_divide,
    "Reciprocal": lambda x: x.dtype.type(1) / x,
    "Relu": lambda x: np.maximum(x, 0),
    "Relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "Rint": np.rint,
    "Round": np.rint,
    "Rsqrt": lambda x: x.dtype.type(1) / np.sqrt(x),
    "Select": _select,
    "SelectV2": np.where,
    "Selu": _selu,
    "Sigmoid": _sigmoid,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Square": np.square,
    "SquaredDifference": lambda left, right: np.square(left - right),
    "Sub": np.subtract,
    "Tan": np.tan,
    "Tanh": np.tanh,
    "TruncateDiv": _divide,
    "TruncateMod": lambda left, right: np.fmod(left, _not_nought(right)),
    "Xdivy": lambda left, right: np.where(left == 0, left, left / right),
    "Xlogy": lambda left, right: np.where(left == 0, left, left * np.log(right)),
    "ZerosLike": np.zeros_like,
    "OnesLike": np.ones_like,
}
"""Operators without attributes that matter."""


def _bucketize(attributes: Attributes, x: Array) -> Array:
    bounds = np.asarray(attributes["boundaries"], np.float32)
    return np.searchsorted(bounds, x, side="right").astype(np.int32)


def _cast(attributes: Attributes, x: Array) -> Array:
    wanted = dtype_of(attributes["DstT"])
    if "O" in (wanted.kind, x.dtype.kind):
        raise ValueError("it makes numbers of texts")
    if wanted.kind in "iu" and x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError("what is missing, or infinite, is no whole number")
    return x.astype(wanted)


def _bitcast(attributes: Attributes, x: Array) -> Array:
    wanted = dtype_of(attributes["type"])
    if "O" in (wanted.kind, x.dtype.kind) or wanted.itemsize != x.dtype.itemsize:
        raise ValueError("it takes bits for others of another size")
    return np.ascontiguousarray(x).reshape(x.shape).view(wanted)


def _leaky_relu(attributes: Attributes, x: Array) -> Array:
    slope = x.dtype.type(attributes.get("alpha", 0.2))
    return np.where(x > 0, x, slope * x)


SHAPED: Mapping[str, Callable[..., Any]] = {
    "Bitcast": _bitcast,
    "Bucketize": _bucketize,
    "Cast": _cast,
    "LeakyRelu": _leaky_relu,
}
"""Operators that take their attributes first."""
