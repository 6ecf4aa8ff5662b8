"""Matrix products: Gemm's factors and transposes are spelled out, vectors become matrices for the product."""

from __future__ import annotations

from ...engine.errors import ModelError
from ...engine.expression import IDENTITY, Operand
from ...engine.graph import Node
from ...engine.ops.elementwise import pointwise
from ...engine.ops.matmul import MatMul
from ...engine.ops.shape import Reshape, Transpose
from .convert import Call, Results, converter
from .ops_elementwise import over


@converter("MatMul")
def matmul(call: Call) -> Results:
    """a @ b, as NumPy has it."""
    return product(call[0], call[1])


def product(a: Node, b: Node) -> Node:
    """a @ b; a vector counts as a row on the left and as a column on the right, and its axis is gone from the result."""
    if min(a.type.rank, b.type.rank) == 0:
        raise ModelError(f"expected matrices or vectors, got {a.type} and {b.type}")
    rows = a if a.type.rank > 1 else Reshape(a, shape=(1, *a.type.shape))
    columns = b if b.type.rank > 1 else Reshape(b, shape=(*b.type.shape, 1))
    result: Node = MatMul(rows, columns)
    if rows is a and columns is b:
        return result
    shape = list(result.type.shape)
    if columns is not b:
        del shape[-1]
    if rows is not a:
        del shape[-1 if columns is not b else -2]
    return Reshape(result, shape=tuple(shape))


@converter("Gemm")
def gemm(call: Call) -> Results:
    """alpha * a' @ b' + beta * c."""
    a, b, c = call[0], call[1], call.get(2)
    if a.type.rank != 2 or b.type.rank != 2:
        raise ModelError(f"expected two matrices, got {a.type} and {b.type}")
    a = Transpose(a, permutation=(1, 0)) if call.integer("transA") else a
    b = Transpose(b, permutation=(1, 0)) if call.integer("transB") else b
    alpha, beta = call.number("alpha"), call.number("beta")
    columns = b.type.shape[-1]
    if c is not None and alpha == beta == 1 and c.type.shape in ((columns,), (1, columns)):
        return MatMul(a, b, c if c.type.rank == 1 else Reshape(c, shape=(columns,)))
    scaled = MatMul(a, b) if alpha == 1 else over(IDENTITY * alpha, MatMul(a, b))
    if c is None or beta == 0:
        return scaled
    return pointwise("add", scaled, c) if beta == 1 else over(IDENTITY + Operand(1) * beta, scaled, c)
