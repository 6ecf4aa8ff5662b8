"""Normalisations: all but batch and local response normalisation are means and a Pointwise. Softmax and its relatives."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...engine.errors import ModelError
from ...engine.expression import IDENTITY, Convert, Operand, apply
from ...engine.graph import Constant, Node
from ...engine.ops.elementwise import cast
from ...engine.ops.norm import LRN, BatchNorm
from ...engine.ops.reduce import ArgReduce, Reduce, Softmax
from ...engine.ops.shape import Reshape
from .convert import Call, Results, axis_of, converter
from .ops_elementwise import over
from .tensors import dtype_of


@converter("BatchNormalization")
def batch_normalization(call: Call) -> Results:
    """Batch normalisation; parameters may be of a wider dtype than x, which then is computed in.

    Where opsets before 14 name statistics as further results, only training has a use for them, and they are not made.
    """
    if call.integer("spatial", 1) != 1:
        raise call.refuse("spatial")
    is_training = bool(call.integer("training_mode", 0))
    wide = np.result_type(*(call[i].type.dtype for i in range(5)))
    operands = [call[i] if call[i].type.dtype == wide else cast(call[i], wide) for i in range(5)]
    results = _with_own_statistics(call, operands) if is_training else (BatchNorm(*operands, epsilon=call.number("epsilon")),)
    given = (call[0], call[3], call[4])
    return tuple(r if wide == g.type.dtype else cast(r, g.type.dtype) for r, g in zip(results, given, strict=False))


def _with_own_statistics(call: Call, operands: list[Node]) -> tuple[Node, ...]:
    """Batch normalisation with the mean and the variance of x itself, and the given ones moved towards them."""
    x, scale, shift, mean, variance = operands
    own = [Reshape(m, shape=mean.type.shape) for m in moments(x, (0, *range(2, x.type.rank)))]
    kept = call.number("momentum")
    moved = [over(Operand(0) * kept + Operand(1) * (1 - kept), old, new) for old, new in zip((mean, variance), own, strict=True)]
    return BatchNorm(x, scale, shift, *own, epsilon=call.number("epsilon")), *moved


@converter("LRN")
def lrn(call: Call) -> Results:
    """Local response normalisation."""
    return LRN(call[0], size=call.integer("size"), alpha=call.number("alpha"), beta=call.number("beta"), bias=call.number("bias"))


def moments(x: Node, axes: tuple[int, ...]) -> tuple[Node, Node]:
    """The mean of x over axes, and that of (x - mean)^2."""
    mean = Reduce(x, kind="mean", axes=axes)
    centred = Operand(0) - Operand(1)
    return mean, Reduce(over(centred * centred, x, mean), kind="mean", axes=axes)


def normalized(x: Node, axes: tuple[int, ...], epsilon: float) -> Node:
    """(x - mean) / sqrt(variance + epsilon), both over axes."""
    return over((Operand(0) - Operand(1)) / apply("sqrt", Operand(2) + epsilon), x, *moments(x, axes))


@converter("LayerNormalization")
def layer_normalization(call: Call) -> Results:
    """Normalisation over the axes from `axis` on, then scale and bias; computed in the dtype stash_type."""
    given, x = call[0].type.dtype, _stashed(call)
    axes = tuple(range(axis_of(call.integer("axis"), x.type.rank), x.type.rank))
    mean, variance = moments(x, axes)
    unit = Convert((Operand(0) - Operand(1)) / apply("sqrt", Operand(2) + call.number("epsilon")), given)
    operands, result = [x, mean, variance, call[1]], unit * Operand(3)
    if (bias := call.get(2)) is not None:
        operands, result = [*operands, bias], result + Operand(4)
    inverse = over(1 / apply("sqrt", IDENTITY + call.number("epsilon")), variance) if call.wants(2) else None
    return over(result, *operands), mean, inverse


@converter("InstanceNormalization")
def instance_normalization(call: Call) -> Results:
    """Normalisation of every channel of every instance, then scale and bias."""
    x = call[0]
    if x.type.rank < 3:
        raise ModelError(f"expected x (n, c, *spatial), got {x.type}")
    column = (x.type.shape[1], *[1] * (x.type.rank - 2))
    unit = normalized(x, tuple(range(2, x.type.rank)), call.number("epsilon"))
    return over(Operand(0) * Operand(1) + Operand(2), unit, Reshape(call[1], shape=column), Reshape(call[2], shape=column))


@converter("GroupNormalization")
def group_normalization(call: Call) -> Results:
    """Normalisation of groups of channels; scale and bias are one a group before opset 21, then one a channel."""
    given, x, groups = call[0].type.dtype, _stashed(call), call.integer("num_groups")
    if x.type.rank < 2 or groups < 1 or x.type.shape[1] % groups:
        raise ModelError(f"expected x (n, c, *spatial) with channels that divide into {groups} groups, got {x.type}")
    n, c, *spatial = x.type.shape
    grouped = Reshape(x, shape=(n, groups, c // groups * math.prod(spatial)))
    unit = Reshape(normalized(grouped, (2,), call.number("epsilon")), shape=(n, groups, c // groups, *spatial))
    column = (groups, 1 if call.opset < 21 else c // groups, *[1] * len(spatial))
    scale, bias = Reshape(call[1], shape=column), Reshape(call[2], shape=column)
    return Reshape(over(Convert(Operand(0), given) * Operand(1) + Operand(2), unit, scale, bias), shape=call[0].type.shape)


def _stashed(call: Call) -> Node:
    """x in the dtype that stash_type asks the statistics to be computed in, if that is wider."""
    stash = dtype_of(call.integer("stash_type", 1), "stash_type")
    return cast(call[0], stash) if call[0].type.dtype.itemsize < stash.itemsize else call[0]


@converter("LpNormalization")
def lp_normalization(call: Call) -> Results:
    """x / (sum of |x|^p along the axis) ^ 1/p, and 0 where all are 0."""
    p, axis = call.integer("p"), axis_of(call.integer("axis"), call[0].type.rank)
    if p not in (1, 2):
        raise call.refuse("p")
    power = apply("abs", IDENTITY) if p == 1 else IDENTITY * IDENTITY
    total = Reduce(over(power, call[0]), kind="sum", axes=(axis,))
    norm = Operand(1) if p == 1 else apply("sqrt", Operand(1))
    return over(apply("where", apply("equal", Operand(1), 0), 0, Operand(0) / norm), call[0], total)


@converter("MeanVarianceNormalization")
def mean_variance_normalization(call: Call) -> Results:
    """(x - mean) / (sqrt(variance) + 1e-9) over the axes; the constant is the specification's."""
    axes = tuple(axis_of(a, call[0].type.rank) for a in call.integers("axes") or (0, 2, 3))
    mean, variance = moments(call[0], axes)
    return over((Operand(0) - Operand(1)) / (apply("sqrt", Operand(2)) + 1e-9), call[0], mean, variance)


@converter("Softmax")
def softmax(call: Call) -> Results:
    """exp(x) / sum of exp(x)."""
    return along_axis(call, lambda x, axis: Softmax(x, axis=axis))


@converter("LogSoftmax")
def log_softmax(call: Call) -> Results:
    """log(softmax(x))."""
    return along_axis(call, lambda x, axis: Softmax(x, axis=axis, log=True))


@converter("Hardmax")
def hardmax(call: Call) -> Results:
    """1 at the first maximum, else 0."""
    return along_axis(call, _one_at_maximum)


def _one_at_maximum(x: Node, axis: int) -> Node:
    best = ArgReduce(x, kind="max", axis=axis)
    positions = Constant(np.arange(x.type.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.type.rank)]))
    return over(Convert(apply("equal", Operand(0), Operand(1)), x.type.dtype), best, positions)


def along_axis(call: Call, build: Callable[[Node, int], Node]) -> Node:
    """build(x, axis); before opset 13 over all axes from `axis` on, seen as one."""
    x = call[0]
    axis = axis_of(call.integer("axis"), x.type.rank)
    lead, rest = x.type.shape[:axis], x.type.shape[axis:]
    if call.opset >= 13 or math.prod(rest) == rest[0]:
        return build(x, axis)
    return Reshape(build(Reshape(x, shape=(math.prod(lead), math.prod(rest))), 1), shape=x.type.shape)
