"""MatMul as tiled products: a matrix, or a stack of matrices, times a packed constant or a computed matrix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from ...engine.graph import Constant
from ...engine.ops import MatMul
from ...engine.tensor import TensorType
from ..common.space import Dimension
from .elements import unit
from .gemm_call import Operands, Positions, product_call, product_for
from .gemm_tile import Columns, Gather
from .kernel import Argument, Call, Machine, NoKernel, lowers
from .pack import pack_matrix, packed_depth


@lowers(MatMul)
def lower_matmul(node: MatMul, machine: Machine) -> list[Call]:
    """One step. Where all products share the right matrix, the rows of a stack are rows of one product."""
    product, a, b, y = product_for(node, machine), node.a.type, node.b.type, node.type
    pitch = row_pitch(a)
    stored = row_pitch(y) if y.layout else y.shape[-1]
    is_single = math.prod(b.shape[:-2]) == 1
    rows = math.prod(y.shape[:-1]) if is_single else y.shape[-2]
    is_aligned = pitch % unit(a.dtype) == 0 and (a.layout is not None or a.shape[-1] == pitch)
    depth = a.shape[-1]
    left = Gather(rows, pitch, (), depth if not is_aligned else -(-depth // unit(a.dtype)) * unit(a.dtype), is_aligned)
    w, right, matrix = right_operand(node, product, left.depth)
    lead = y.shape[:-2]
    strides = zip(lead_strides(a, lead, pitch * a.shape[-2]), lead_strides(b, lead, matrix), strict=True)
    batch = () if is_single else tuple(map(Dimension, lead, strides))
    at = Positions(
        node,
        extents=y.shape[:-1] if is_single else (y.shape[-2],),
        dimensions=tuple(range(y.rank - 1)) if is_single else (y.rank - 2,),
        batch=batch,
        batch_dimensions=() if is_single else tuple(range(y.rank - 2)),
        columns=y.shape[-1],
    )
    return [product_call(node, machine, product, Operands(node.a, w, left, right, isinstance(node.b, Constant)), at, stored)]


def right_operand(node: MatMul, product: str, depth: int) -> tuple[Argument, Columns, int]:
    """Where the right matrices are, how their columns lie there, and elements from one matrix to the next."""
    b = node.b.type
    if isinstance(node.b, Constant):
        packed = packed_depth(depth, product)
        return pack_matrix(node.b.data, product, depth), Columns(b.shape[-1], packed, packed), b.shape[-1] * packed
    pitch = row_pitch(b)
    return node.b, Columns(b.shape[-1], b.shape[-2], 1, pitch, is_aligned=False), pitch * b.shape[-2]


def row_pitch(kind: TensorType) -> int:
    """Elements from one row of a matrix to the next. Raises NoKernel for other layouts."""
    if kind.layout is None:
        return kind.shape[-1]
    if kind.layout.axis != kind.rank - 1 or kind.layout.block < kind.shape[-1]:
        raise NoKernel(f"{kind} is no matrix with its rows in one piece")
    return kind.layout.block


def lead_strides(kind: TensorType, lead: Sequence[int], matrix: int) -> tuple[int, ...]:
    """Elements that a stack of matrices moves on along each leading axis of the result."""
    own = kind.shape[:-2]
    steps = [matrix * math.prod(own[i + 1 :]) if n > 1 else 0 for i, n in enumerate(own)]
    return (*itertools.repeat(0, len(lead) - len(own)), *steps)
