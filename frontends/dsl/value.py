"""Value: what layers take and give, a node with arithmetic; and the ways to make one: apply, pointwise, parameter, constant."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import numpy as np

from ...engine.errors import ModelError
from ...engine.graph import Constant, Node, Result
from ...engine.ops import MatMul, Reshape, Slice
from ...engine.ops import cast as cast_node
from ...engine.ops import pointwise as pointwise_node
from .initial import Initial
from .trace import Parameter, current, layer


@dc.dataclass(frozen=True, eq=False)
class Value:
    """An array of the model that is being traced: its shape and dtype are known, its numbers are not.

    `+ - * / ** < <= > >= == !=` work element by element and broadcast as in NumPy, `@` is the matrix product, `x[:, 1:, ::2]` a slice.
    """

    node: Node
    __array_ufunc__ = None  # so that array + value asks Value.__radd__
    __hash__ = object.__hash__  # == says nothing about identity
    __iter__ = None  # or the slice x[i] would make for loops endless

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.type.shape

    @property
    def dtype(self) -> np.dtype:
        return self.node.type.dtype

    def __add__(self, other: Operand) -> Value:
        return pointwise("add", self, other)

    def __radd__(self, other: Operand) -> Value:
        return pointwise("add", other, self)

    def __sub__(self, other: Operand) -> Value:
        return pointwise("sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return pointwise("sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return pointwise("mul", self, other)

    def __rmul__(self, other: Operand) -> Value:
        return pointwise("mul", other, self)

    def __truediv__(self, other: Operand) -> Value:
        return pointwise("div", self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return pointwise("div", other, self)

    def __pow__(self, other: Operand) -> Value:
        return pointwise("pow", self, other)

    def __neg__(self) -> Value:
        return pointwise("neg", self)

    def __lt__(self, other: Operand) -> Value:
        return pointwise("less", self, other)

    def __le__(self, other: Operand) -> Value:
        return pointwise("less_equal", self, other)

    def __gt__(self, other: Operand) -> Value:
        return pointwise("less", other, self)

    def __ge__(self, other: Operand) -> Value:
        return pointwise("less_equal", other, self)

    def __eq__(self, other: Any) -> Any:
        return pointwise("equal", self, other)

    def __ne__(self, other: Any) -> Any:
        return pointwise("not", self == other)

    def __matmul__(self, other: Value) -> Value:
        return matmul(self, other)

    def __getitem__(self, key: Any) -> Value:
        return cut(self, key if isinstance(key, tuple) else (key,))

    def astype(self, dtype: Any) -> Value:
        """The numbers converted to a dtype."""
        return cast(self, np.dtype(dtype))

    def __bool__(self) -> bool:
        raise ModelError("the numbers of a value are not known while a model is traced; choose between two with where(condition, a, b)")

    def __repr__(self) -> str:
        return f"<value {self.node.type} of {', '.join(self.node.origin) or self.node.opname}>"


Operand = Value | float | np.ndarray


def apply(operator: Callable[..., Node], *operands: Any, **attributes: Any) -> Any:
    """The result of any operator: `apply(LRN, x, size=5)` is the node `LRN(x.node, size=5)`, named after the present layer.

    operator: a Node class, of the engine or your own, or a function that makes a node and takes `origin`. Values (also in
    tuples) are handed over as their nodes. Returns a Value, or a tuple of them when the operator has several results.
    """
    trace = current(f"apply({operator.__name__})")
    node = operator(*map(_node, operands), **attributes, origin=trace.origin)
    if len(node.types) == 1:
        return Value(node)
    return tuple(Value(Result(node, index=i, origin=trace.origin)) for i in range(len(node.types)))


def _node(operand: Any) -> Any:
    if isinstance(operand, tuple):
        return tuple(map(_node, operand))
    return operand.node if isinstance(operand, Value) else operand


def pointwise(function: str, *operands: Operand) -> Value:
    """One function of engine.expression.FUNCTIONS, element by element; numbers and arrays take the dtype of the values.

    It is a layer of its own, named after the function: `relu1`, `add2`.
    """
    dtypes = [o.dtype for o in operands if isinstance(o, Value)]
    if not dtypes:
        raise ModelError(f"{function}: expected at least one value of the model, got {', '.join(type(o).__name__ for o in operands)}")
    trace = current(f"{function}()")
    with trace.enter(trace.numbered(function)):
        return apply(pointwise_node, function, *(o if isinstance(o, Value) else _literal(o, dtypes[-1]) for o in operands))


def _literal(operand: Any, dtype: np.dtype) -> Any:
    """A single number as part of the expression, an array as a constant without a name: it is no parameter."""
    array = _converted(operand, dtype)
    return Value(Constant(array)) if array.ndim else np.asarray(operand).item()


def constant(array: Any, dtype: Any = None) -> Value:
    """An array that is part of the model and not learned. ModelError without numbers, and when `dtype` is of another kind than theirs.

    Only parameters have names: that is how a graph tells the two apart.
    """
    try:
        kind = np.asarray(array).dtype
    except ValueError as error:
        raise ModelError(f"constant: {error}") from error
    if kind.kind not in "biuf":
        raise ModelError(f"constant: expected numbers, got dtype {kind}")
    return Value(Constant(np.array(array) if dtype is None else _converted(array, np.dtype(dtype))))


def _converted(array: Any, dtype: np.dtype) -> np.ndarray:
    array = np.asarray(array)
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ModelError(f"expected numbers that fit dtype {dtype}, got {array.dtype}; convert one side with astype")
    return array.astype(dtype)


def parameter(name: str, shape: Sequence[int], initial: Initial, *, dtype: Any = np.float32, statistic: bool = False) -> Value:
    """A learned array of the layer that is being traced: `parameter("weight", (16, 6, 5, 5), he_normal(150))`.

    statistic: measured while training, not learned; it does not count as a parameter of the model.
    """
    trace = current(f"parameter({name!r})")
    extents = whole_numbers(shape, f"parameter {trace.qualified(name)}")
    found = Parameter(trace.qualified(name), extents, np.dtype(dtype), initial, statistic)
    return Value(Constant(trace.add(found), origin=(found.name,)))


def as_value(x: Any, what: str) -> Value:
    """x, if it is a Value; ModelError naming the layer otherwise."""
    if not isinstance(x, Value):
        hint = "; constant(...) makes one of an array" if isinstance(x, np.ndarray) else ""
        raise ModelError(f"{what}: expected a value of the model, got {type(x).__name__}{hint}")
    return x


def whole_numbers(given: Any, what: str, least: int | None = 0) -> tuple[int, ...]:
    """One or several integers, of Python or NumPy, as a tuple. ModelError for anything else and for one below `least`."""
    try:
        numbers = tuple(map(index, given if np.iterable(given) else (given,)))
    except TypeError:
        numbers = None
    if numbers is None or (least is not None and min(numbers, default=least) < least):
        raise ModelError(f"{what}: expected whole numbers{'' if least is None else f' from {least} on'}, got {given!r}")
    return numbers


@layer
def matmul(a: Value, b: Value) -> Value:
    """a @ b: the matrix product over the last two axes; leading axes broadcast."""
    return apply(MatMul, as_value(a, "matmul"), as_value(b, "matmul"))


@layer
def cast(x: Value, dtype: np.dtype) -> Value:
    """x converted to a dtype"""
    return apply(cast_node, x, dtype)


@layer
def cut(x: Value, key: tuple[Any, ...]) -> Value:
    """x[key] with integers, slices and `...`, as in NumPy; ModelError for anything else and for an index outside x."""
    dots = [i for i, k in enumerate(key) if k is Ellipsis]
    if len(dots) > 1 or len(key) - len(dots) > len(x.shape):
        raise ModelError(f"{len(key)} indices for a value of shape {x.shape}")
    at = dots[0] if dots else len(key)
    full = [*key[:at], *[slice(None)] * (len(x.shape) - len(key) + len(dots)), *key[at + 1 :]]
    ranges = [_range(k, size) for k, size in zip(full, x.shape, strict=True)]
    sliced = apply(Slice, x, starts=tuple(r.start for r in ranges), sizes=tuple(map(len, ranges)), steps=tuple(r.step for r in ranges))
    if all(isinstance(k, slice) for k in full):
        return sliced
    return apply(Reshape, sliced, shape=tuple(len(r) for k, r in zip(full, ranges, strict=True) if isinstance(k, slice)))


def _range(key: Any, size: int) -> range:
    try:
        chosen = range(size)[key]
    except (TypeError, ValueError, IndexError) as error:
        raise ModelError(f"expected slices and integers in range of a dimension of {size}, got {key!r}") from error
    return range(chosen, chosen + 1) if isinstance(chosen, int) else chosen
