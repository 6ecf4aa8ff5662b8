"""Reductions, arg-max, top-k and running sums. The axes are attributes in older opsets and inputs in newer ones."""

from __future__ import annotations

import numpy as np

from ...engine.expression import IDENTITY, Expression, Operand, apply
from ...engine.graph import Node, Result
from ...engine.ops.elementwise import cast
from ...engine.ops.reduce import ArgReduce, CumSum, Reduce, TopK
from ...engine.ops.shape import Reshape
from .convert import Call, Results, axis_of, converter
from .ops_elementwise import over

PLAIN = {"ReduceMax": "max", "ReduceMean": "mean", "ReduceMin": "min", "ReduceProd": "prod", "ReduceSum": "sum"}
SUMS: dict[str, tuple[Expression, Expression]] = {
    "ReduceL1": (apply("abs", IDENTITY), IDENTITY),
    "ReduceL2": (IDENTITY * IDENTITY, apply("sqrt", IDENTITY)),
    "ReduceLogSum": (IDENTITY, apply("log", IDENTITY)),
    "ReduceSumSquare": (IDENTITY * IDENTITY, IDENTITY),
}
"""What is done to x before its sum, and to the sum."""


def axes_of(call: Call) -> tuple[int, ...]:
    """The axes to reduce: all where none are given, unless that is to mean none."""
    rank = call[0].type.rank
    axes = call.integers_or_input("axes", 1)
    if not axes and not call.integer("noop_with_empty_axes", 0):
        return tuple(range(rank))
    return tuple(sorted(axis_of(a, rank) for a in axes or ()))


@converter(*PLAIN)
def reduce(call: Call) -> Results:
    """The sum, mean, maximum, minimum or product over axes."""
    return Reduce(call[0], kind=PLAIN[call.op], axes=axes_of(call), keepdims=bool(call.integer("keepdims")))


@converter(*SUMS)
def reduce_sum_of(call: Call) -> Results:
    """after(sum of before(x)); roots and logarithms of integers are computed as real numbers."""
    before, after = SUMS[call.op]
    dtype = call[0].type.dtype
    x = cast(call[0], np.dtype(np.float64)) if dtype.kind != "f" and after != IDENTITY else call[0]
    total = Reduce(_applied(before, x), kind="sum", axes=axes_of(call), keepdims=bool(call.integer("keepdims")))
    result = _applied(after, total)
    return result if result.type.dtype == dtype else cast(result, dtype)


def _applied(expression: Expression, x: Node) -> Node:
    return x if expression == IDENTITY else over(expression, x)


@converter("ReduceLogSumExp")
def reduce_log_sum_exp(call: Call) -> Results:
    """log(sum of exp(x - m)) + m, where m is the maximum, or 0 where that is infinite."""
    dtype, axes = call[0].type.dtype, axes_of(call)
    x = cast(call[0], np.dtype(np.float64)) if dtype.kind != "f" else call[0]
    largest = over(apply("where", apply("is_inf", IDENTITY), 0, IDENTITY), Reduce(x, kind="max", axes=axes))
    powers = over(apply("exp", Operand(0) - Operand(1)), x, largest)
    result = over(apply("log", Operand(0)) + Operand(1), Reduce(powers, kind="sum", axes=axes), largest)
    if not call.integer("keepdims"):
        result = Reshape(result, shape=tuple(n for i, n in enumerate(result.type.shape) if i not in axes))
    return result if result.type.dtype == dtype else cast(result, dtype)


@converter("ArgMax", "ArgMin")
def arg_reduce(call: Call) -> Results:
    """The position of the largest or smallest."""
    return ArgReduce(
        call[0],
        kind="max" if call.op == "ArgMax" else "min",
        axis=axis_of(call.integer("axis"), call[0].type.rank),
        keepdims=bool(call.integer("keepdims")),
        last_index=bool(call.integer("select_last_index", 0)),
    )


@converter("TopK")
def top_k(call: Call) -> Results:
    """The k best and their positions, always sorted. k is an attribute before opset 10."""
    k = call.integer("k") if call.opset < 10 else int(call.scalar(1))
    axis = axis_of(call.integer("axis"), call[0].type.rank)
    found = TopK(call[0], k=k, axis=axis, largest=bool(call.integer("largest", 1)))
    return Result(found, index=0), Result(found, index=1)


@converter("CumSum")
def cum_sum(call: Call) -> Results:
    """Running sums."""
    axis = axis_of(int(call.scalar(1)), call[0].type.rank)
    return CumSum(call[0], axis=axis, exclusive=bool(call.integer("exclusive")), reverse=bool(call.integer("reverse")))
