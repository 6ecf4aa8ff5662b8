"""Convolutions for the tests of the cuda backend: nodes of random numbers, and values of what they read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from cpu_harness import operand
from cuda_cases import channels_last

from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.engine.expression import IDENTITY, Expression
from tilewright.engine.graph import Constant, Node
from tilewright.engine.ops import Conv, ConvTranspose

F2, F4, F8 = np.float16, np.float32, np.float64
FEW = [ARCHITECTURES[name] for name in ("sm_75", "sm_90")]
Values = dict[Node, np.ndarray]


def convolution(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    *,
    dtype: Any = F4,
    last: tuple[bool, bool] = (True, True),
    operator: type[Conv] | type[ConvTranspose] = Conv,
    bias: bool = True,
    is_constant: bool = True,
    extras: tuple[tuple[int, ...], ...] = (),
    epilogue: Expression = IDENTITY,
    **attributes: Any,
) -> tuple[Conv | ConvTranspose, Values]:
    """The node, and values of its inputs. `last`: whether channels are last in x and in the result; `extras`: their shapes."""
    rng = np.random.default_rng(sum(shape) + sum(weight))
    values: Values = {}

    def given(name: str, data: np.ndarray, is_last: bool = False) -> Node:
        node = operand(name, data, channels_last(dtype, data.shape[1]) if is_last else None)
        values[node] = data
        return node

    def numbers(*extents: int) -> np.ndarray:
        return rng.standard_normal(extents).astype(dtype)

    x = given("x", numbers(*shape), last[0])
    kernel = (numbers(*weight) / math.sqrt(math.prod(weight[1:]))).astype(dtype)
    k = weight[0] if operator is Conv else weight[1] * attributes.get("groups", 1)
    held = numbers(k)
    parameters = (Constant(kernel), Constant(held)) if is_constant else (given("weight", kernel), given("bias", held))
    others = tuple(given(f"extra{i}", numbers(*e), last[1] and len(e) == len(shape) and e[1] == k) for i, e in enumerate(extras))
    layout = channels_last(dtype, k) if last[1] else None
    node = operator(x, parameters[0], parameters[1] if bias else None, others, epilogue=epilogue, layout=layout, **attributes)
    return node, values


def tolerance(dtype: Any) -> tuple[float, float]:
    """Relative and absolute, of sums of about one."""
    return {F2: (1e-2, 5e-3), F4: (1e-5, 1e-5), F8: (1e-12, 1e-12)}[dtype]
