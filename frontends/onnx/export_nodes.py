"""How each operator of the IR is written in ONNX; one small function an operator."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...engine.errors import UnsupportedError
from ...engine.expression import IDENTITY, Operand, walk
from ...engine.graph import Constant, Node
from ...engine.ops.conv import Conv, ConvTranspose
from ...engine.ops.elementwise import Pointwise
from ...engine.ops.gather import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from ...engine.ops.layout import Reorder
from ...engine.ops.matmul import MatMul
from ...engine.ops.norm import LRN, BatchNorm
from ...engine.ops.pool import ArgMaxPool, AveragePool, MaxPool
from ...engine.ops.recurrent import GRU, LSTM, RNN
from ...engine.ops.reduce import ArgReduce, CumSum, Reduce, Softmax, TopK
from ...engine.ops.resize import Resize
from ...engine.ops.shape import Concat, Expand, Pad, Reshape, Slice, Transpose
from .export_expression import write_expression
from .ops_resize import scaled_extents
from .writer import Writer

NEWEST_END = -(2**31)
"""An end so far before the first element that a backward slice reaches that one."""


@functools.singledispatch
def write(node: Node, to: Writer) -> str | tuple[str, ...]:
    """Write the node; the name of its result, or of each. Raises UnsupportedError for what ONNX cannot say."""
    raise UnsupportedError(f"no exporter for {node.opname}; add one in frontends/onnx/export_nodes.py")


def write_epilogue(node: Conv | ConvTranspose | MatMul, result: str, to: Writer) -> str:
    """The epilogue over the result and the extras."""
    if node.epilogue == IDENTITY:
        return result
    dtypes = [node.x.type.dtype if isinstance(node, Conv | ConvTranspose) else node.a.type.dtype, *(e.type.dtype for e in node.extras)]
    return write_expression(to, node.epilogue, [result, *map(to.name, node.extras)], dtypes)


def flat(pads: Iterable[tuple[int, int]]) -> list[int]:
    """All pads before, then all pads after."""
    before, after = zip(*pads, strict=True)
    return [*before, *after]


@write.register
def write_constant(node: Constant, to: Writer) -> str:
    """An initialiser."""
    return to.constant(node.data, label=node.origin[-1] if node.origin else "constant")


@write.register
def write_pointwise(node: Pointwise, to: Writer) -> str:
    """The nodes of its expression, and Expand where an operand only widens the result."""
    result = write_expression(to, node.expression, list(map(to.name, node.inputs)), [o.type.dtype for o in node.inputs])
    read = [node.inputs[e.index].type.shape for e in walk(node.expression) if isinstance(e, Operand)]
    return result if np.broadcast_shapes(*read) == node.type.shape else to.emit("Expand", result, to.integers(node.type.shape))


@write.register
def write_convolution(node: Conv | ConvTranspose, to: Writer) -> str:
    """Conv or ConvTranspose, and the epilogue."""
    operands = map(to.name, (node.x, node.weight, node.bias))
    settings: dict[str, Any] = {"strides": node.strides, "pads": flat(node.pads), "dilations": node.dilations, "group": node.groups}
    if isinstance(node, ConvTranspose):
        settings["output_padding"] = node.output_padding
    return write_epilogue(node, to.emit(type(node).__name__, *operands, **settings), to)


@write.register
def write_matmul(node: MatMul, to: Writer) -> str:
    """Gemm for two matrices and a bias, else MatMul and Add; then the epilogue."""
    a, b, bias = map(to.name, (node.a, node.b, node.bias))
    if bias and node.a.type.rank == node.b.type.rank == 2:
        return write_epilogue(node, to.emit("Gemm", a, b, bias), to)
    product = to.emit("MatMul", a, b)
    return write_epilogue(node, to.emit("Add", product, bias) if bias else product, to)


def _pooling(node: MaxPool | ArgMaxPool | AveragePool) -> dict[str, Any]:
    dilations = node.dilations if any(d > 1 for d in node.dilations) else None
    pads = flat(node.pads)
    return {"kernel_shape": node.kernel, "strides": node.strides, "pads": pads, "dilations": dilations, "ceil_mode": int(node.ceil_mode)}


@write.register
def write_max_pool(node: MaxPool, to: Writer) -> str:
    """MaxPool."""
    return to.emit("MaxPool", to.name(node.x), **_pooling(node))


@write.register
def write_arg_max_pool(node: ArgMaxPool, to: Writer) -> str:
    """The second result of MaxPool."""
    first = to.emit("MaxPool", to.name(node.x), results=2, **_pooling(node), storage_order=int(node.column_major))
    return to.results(first)[1]


@write.register
def write_average_pool(node: AveragePool, to: Writer) -> str:
    """AveragePool."""
    return to.emit("AveragePool", to.name(node.x), **_pooling(node), count_include_pad=int(node.count_include_pad))


@write.register
def write_batch_norm(node: BatchNorm, to: Writer) -> str:
    """BatchNormalization."""
    return to.emit("BatchNormalization", *map(to.name, node.operands), epsilon=node.epsilon)


@write.register
def write_lrn(node: LRN, to: Writer) -> str:
    """LRN."""
    return to.emit("LRN", to.name(node.x), size=node.size, alpha=node.alpha, beta=node.beta, bias=node.bias)


@write.register
def write_reduce(node: Reduce, to: Writer) -> str:
    """ReduceSum and its kin; the axes became an input in opset 18, for ReduceSum before. Over no axes it is the operand itself."""
    op, x, keepdims = f"Reduce{node.kind.capitalize()}", to.name(node.x), int(node.keepdims)
    if not node.axes:
        return x
    if node.kind == "sum" or to.opset >= 18:
        return to.emit(op, x, to.integers(node.axes), keepdims=keepdims)
    return to.emit(op, x, axes=node.axes, keepdims=keepdims)


@write.register
def write_softmax(node: Softmax, to: Writer) -> str:
    """Softmax or LogSoftmax."""
    return to.emit("LogSoftmax" if node.log else "Softmax", to.name(node.x), axis=node.axis)


@write.register
def write_arg_reduce(node: ArgReduce, to: Writer) -> str:
    """ArgMax or ArgMin."""
    settings = {"axis": node.axis, "keepdims": int(node.keepdims), "select_last_index": int(node.last_index)}
    return to.emit(f"Arg{node.kind.capitalize()}", to.name(node.x), **settings)


@write.register
def write_top_k(node: TopK, to: Writer) -> tuple[str, ...]:
    """TopK."""
    return to.results(to.emit("TopK", to.name(node.x), to.integers([node.k]), results=2, axis=node.axis, largest=int(node.largest)))


@write.register
def write_cum_sum(node: CumSum, to: Writer) -> str:
    """CumSum."""
    return to.emit("CumSum", to.name(node.x), to.constant(node.axis, np.int64), exclusive=int(node.exclusive), reverse=int(node.reverse))


@write.register
def write_reshape(node: Reshape, to: Writer) -> str:
    """Reshape, in which 0 is an extent."""
    return to.emit("Reshape", to.name(node.x), to.integers(node.shape), allowzero=1 if 0 in node.shape else None)


@write.register
def write_transpose(node: Transpose, to: Writer) -> str:
    """Transpose."""
    return to.emit("Transpose", to.name(node.x), perm=node.permutation)


@write.register
def write_concat(node: Concat, to: Writer) -> str:
    """Concat."""
    return to.emit("Concat", *map(to.name, node.inputs), axis=node.axis)


@write.register
def write_slice(node: Slice, to: Writer) -> str:
    """Slice on every axis."""
    ends = []
    for start, size, step in zip(node.starts, node.sizes, node.steps, strict=True):
        end = start + size * step
        ends.append(end if end >= 0 else NEWEST_END)
    axes = range(node.type.rank)
    return to.emit("Slice", to.name(node.x), *map(to.integers, (node.starts, ends, axes, node.steps))) if axes else to.name(node.x)


@write.register
def write_pad(node: Pad, to: Writer) -> str:
    """Pad."""
    if not node.pads:
        return to.name(node.x)
    value = to.constant(node.value, node.type.dtype) if node.mode == "constant" else ""
    return to.emit("Pad", to.name(node.x), to.integers(flat(node.pads)), value, mode=node.mode)


@write.register
def write_expand(node: Expand, to: Writer) -> str:
    """Expand."""
    return to.emit("Expand", to.name(node.x), to.integers(node.shape))


@write.register
def write_gather(node: Gather | GatherElements, to: Writer) -> str:
    """Gather or GatherElements."""
    return to.emit(type(node).__name__, to.name(node.x), to.name(node.indices), axis=node.axis)


@write.register
def write_gather_nd(node: GatherND, to: Writer) -> str:
    """GatherND."""
    return to.emit("GatherND", to.name(node.x), to.name(node.indices), batch_dims=node.batch_dims)


@write.register
def write_scatter_elements(node: ScatterElements, to: Writer) -> str:
    """ScatterElements."""
    return to.emit("ScatterElements", *map(to.name, node.operands), axis=node.axis, reduction=node.reduction)


@write.register
def write_scatter_nd(node: ScatterND, to: Writer) -> str:
    """ScatterND."""
    return to.emit("ScatterND", *map(to.name, node.operands), reduction=node.reduction)


@write.register
def write_resize(node: Resize, to: Writer) -> str:
    """Resize, by sizes where the scales are those that sizes give, else by scales."""
    extents = node.x.type.shape
    rounding = _rounding(node)
    roi = to.constant(node.roi, np.float32) if node.roi is not None else ""
    scales = sizes = ""
    if all(n and scale == size / n for scale, size, n in zip(node.scales, node.shape, extents, strict=True)):
        sizes = to.integers(node.shape)
    elif scaled_extents(extents, node.scales) == node.shape:
        scales = to.constant(node.scales, np.float32)
    else:
        raise UnsupportedError(f"shape {node.shape} of {node.x.type} with scales {node.scales}, which give another shape")
    return to.emit(
        "Resize", to.name(node.x), roi, scales, sizes,
        mode=node.mode,
        coordinate_transformation_mode=node.coordinates,
        nearest_mode=rounding,
        cubic_coeff_a=node.cubic_coefficient,
        exclude_outside=int(node.exclude_outside),
        antialias=1 if node.antialias else None,
        extrapolation_value=node.extrapolation_value,
    )  # fmt: skip


def _rounding(node: Resize) -> str | None:
    """nearest_mode; "simple" depends on whether an axis shrinks, which ONNX can say only if all do or none does."""
    if node.mode != "nearest" or node.nearest_rounding != "simple":
        return node.nearest_rounding if node.mode == "nearest" else None
    if all(scale >= 1 for scale in node.scales):
        return "floor"
    if all(scale <= 1 for scale in node.scales):
        return "ceil"
    raise UnsupportedError(f"nearest_rounding 'simple' with scales {node.scales} on both sides of 1")


@write.register
def write_recurrent(node: RNN | GRU | LSTM, to: Writer) -> tuple[str, ...]:
    """RNN, GRU or LSTM."""
    operands = [to.name(getattr(node, name)) for name in node.operand_names]
    activations = {"activation_alpha": node.activation_alpha or None, "activation_beta": node.activation_beta or None}
    own = {"linear_before_reset": int(node.linear_before_reset)} if isinstance(node, GRU) else {}
    own |= {"input_forget": int(node.input_forget)} if isinstance(node, LSTM) else {}
    first = to.emit(
        type(node).__name__,
        *operands,
        results=len(node.types),
        hidden_size=node.recurrent.type.shape[2],
        direction=node.direction,
        activations=node.activations or None,
        clip=node.clip,
        **activations,
        **own,
    )
    return to.results(first)


@write.register
def write_reorder(node: Reorder, to: Writer) -> str:
    """Nothing: ONNX knows no physical order."""
    return to.name(node.x)
