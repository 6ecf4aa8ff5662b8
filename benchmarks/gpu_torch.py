"""A graph as PyTorch would write it: one call of torch.nn.functional for each node, as a module that torch.compile understands."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as functional  # pyright: ignore[reportMissingImports]

from tilewright.engine.expression import FUNCTIONS, Apply, Expression, Literal, Operand, substitute
from tilewright.engine.graph import Constant, Graph, Input, Node
from tilewright.engine.ops import (
    AveragePool,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    Expand,
    MatMul,
    MaxPool,
    Pad,
    Pointwise,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)

Write = Callable[..., Any]
"""`write(function, *args, **kwargs)` adds a call to the module and answers its value."""
UNARY = {
    "relu": functional.relu, "silu": functional.silu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "exp": torch.exp, "sqrt": torch.sqrt,
    "hard_swish": functional.hardswish, "gelu": functional.gelu, "abs": torch.abs, "neg": torch.neg, "log": torch.log, "erf": torch.erf,
}  # fmt: skip
BINARY = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "pow": torch.pow}
EXTREMES = {"max": (torch.maximum, "min"), "min": (torch.minimum, "max")}
"""Of two values, and how clamp calls the limit where one is a number."""
REDUCTIONS = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax, "min": torch.amin}


def torch_module(graph: Graph) -> Any:
    """The module: from tensors in the order of the inputs to a list of results. Raises NotImplementedError for what it does not know."""
    root, traced = torch.nn.Module(), torch.fx.Graph()
    values: dict[Node, Any] = {node: traced.placeholder(node.name) for node in graph.inputs}

    def write(function: Any, *args: Any, **kwargs: Any) -> Any:
        return traced.call_function(function, args, kwargs)

    def held(array: np.ndarray) -> Any:
        name = f"weight{len(list(root.buffers()))}"
        root.register_buffer(name, torch.from_numpy(np.array(array)))
        return traced.get_attr(name)

    for node in graph:
        if isinstance(node, Constant):
            values[node] = held(node.data)
        elif not isinstance(node, Input):
            values[node] = written(node, values, write, held)
    traced.output([values[node] for node in graph.outputs])
    traced.eliminate_dead_code()
    return torch.fx.GraphModule(root, traced).eval()


def written(node: Node, values: dict[Node, Any], write: Write, held: Callable[[np.ndarray], Any]) -> Any:
    """The value of a node that computes something."""
    if isinstance(node, Pointwise):
        return expression(node.expression, [values[o] for o in node.operands], write)
    if isinstance(node, Conv | ConvTranspose):
        result = convolution(node, values, write)
    elif isinstance(node, MatMul):
        result = product(node, values, write, held)
    else:
        return moved(node, [values[o] for o in node.operands], write)
    return expression(node.epilogue, [result, *(values[e] for e in node.extras)], write)


def convolution(node: Conv | ConvTranspose, values: dict[Node, Any], write: Write) -> Any:
    """With its padding inside where it is the same on both sides."""
    rank = len(node.kernel)
    x, bias = values[node.x], None if node.bias is None else values[node.bias]
    if isinstance(node, ConvTranspose):
        given = {"output_padding": node.output_padding, "padding": _even(node.pads)}
        function = getattr(functional, f"conv_transpose{rank}d")
    else:
        x, padding = padded(x, node.pads, write)
        given, function = {"padding": padding}, getattr(torch, f"conv{rank}d")
    more = {"stride": node.strides, "dilation": node.dilations, "groups": node.groups}
    return write(function, x, values[node.weight], bias, **given, **more)


def padded(x: Any, pads: tuple[tuple[int, int], ...], write: Write, value: float = 0.0) -> tuple[Any, tuple[int, ...]]:
    """x with what the operator itself cannot pad, and what it can."""
    if all(before == after for before, after in pads):
        return x, tuple(before for before, _ in pads)
    return write(functional.pad, x, _last_first(pads), value=value), (0,) * len(pads)


def _even(pads: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    if any(before != after for before, after in pads):
        raise NotImplementedError(f"pads {pads}")
    return tuple(before for before, _ in pads)


def _last_first(pads: tuple[tuple[int, int], ...]) -> list[int]:
    return [n for pair in reversed(pads) for n in pair]


def product(node: MatMul, values: dict[Node, Any], write: Write, held: Callable[[np.ndarray], Any]) -> Any:
    """A linear layer where the right operand is a constant matrix."""
    bias = None if node.bias is None else values[node.bias]
    if isinstance(node.b, Constant) and node.b.type.rank == 2:
        return write(functional.linear, values[node.a], held(np.ascontiguousarray(node.b.data.T)), bias)
    result = write(torch.matmul, values[node.a], values[node.b])
    return result if bias is None else write(operator.add, result, bias)


def moved(node: Node, operands: list[Any], write: Write) -> Any:
    """Pooling, reductions, normalisation and movement."""
    x = operands[0]
    match node:
        case MaxPool() | AveragePool():
            return pooled(node, x, write)
        case BatchNorm():
            scale, shift, mean, variance = operands[1:]
            return write(functional.batch_norm, x, mean, variance, scale, shift, eps=node.epsilon)
        case Reduce() if node.kind in REDUCTIONS:
            return write(REDUCTIONS[node.kind], x, dim=node.axes, keepdim=node.keepdims)
        case Reshape():
            return write(torch.reshape, x, node.shape)
        case Transpose():
            return write(torch.permute, x, node.permutation)
        case Concat():
            return write(torch.cat, operands, dim=node.axis)
        case Slice() if min(node.steps) > 0:
            cut = zip(node.starts, node.sizes, node.steps, strict=True)
            return write(operator.getitem, x, tuple(slice(a, a + (n - 1) * s + 1, s) for a, n, s in cut))
        case Pad() if node.mode == "constant":
            return write(functional.pad, x, _last_first(node.pads), value=float(node.value))
        case Expand():
            return write(torch.broadcast_to, x, node.type.shape)
        case Softmax():
            return write(functional.log_softmax if node.log else functional.softmax, x, dim=node.axis)
        case Resize() if node.mode == "linear" and node.coordinates == "half_pixel" and node.shape[:2] == node.x.type.shape[:2]:
            return write(functional.interpolate, x, size=node.shape[2:], mode="bilinear", align_corners=False)
    raise NotImplementedError(f"{node.opname} has no counterpart in PyTorch here")


def pooled(node: MaxPool | AveragePool, x: Any, write: Write) -> Any:
    """In two dimensions and with pads that are even."""
    given = {"stride": node.strides, "padding": _even(node.pads), "ceil_mode": node.ceil_mode}
    if isinstance(node, MaxPool):
        return write(functional.max_pool2d, x, node.kernel, dilation=node.dilations, **given)
    if set(node.dilations) != {1}:
        raise NotImplementedError("dilated average pooling")
    return write(functional.avg_pool2d, x, node.kernel, count_include_pad=node.count_include_pad, **given)


def expression(tree: Expression, operands: list[Any], write: Write) -> Any:
    """By PyTorch's own function where it has one, else by its definition."""
    if isinstance(tree, Operand):
        return operands[tree.index]
    if isinstance(tree, Literal):
        return tree.value
    if not isinstance(tree, Apply):
        raise NotImplementedError(f"{tree}")
    if tree.function == "clip" and all(isinstance(limit, Literal) for limit in tree.args[1:]):
        low, high = (limit.value for limit in tree.args[1:] if isinstance(limit, Literal))
        return write(torch.clamp, expression(tree.args[0], operands, write), low, high)
    known = UNARY.get(tree.function) or BINARY.get(tree.function)
    definition = FUNCTIONS[tree.function].definition
    if known is None and definition is not None:
        return expression(substitute(definition, tree.args), operands, write)
    args = [expression(arg, operands, write) for arg in tree.args]
    if known is None and tree.function in EXTREMES:
        return _extreme(tree.function, args, write)
    if known is None:
        raise NotImplementedError(f"{tree.function} has no counterpart in PyTorch here")
    return write(known, *args)


def _extreme(function: str, args: list[Any], write: Write) -> Any:
    both, limit = EXTREMES[function]
    numbers = [arg for arg in args if isinstance(arg, int | float)]
    if not numbers:
        return write(both, *args)
    (value,) = (arg for arg in args if not isinstance(arg, int | float))
    return write(torch.clamp, value, **{limit: numbers[0]})
