"""What the tests of the cuda backend's data-moving and reducing kernels share."""

from __future__ import annotations

from typing import Any

import numpy as np
from cpu_harness import operand
from cuda_harness import load_kernels

from tilewright.backends.cuda import layout
from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.kernel import Call, Machine, lower
from tilewright.engine.graph import Input, Node
from tilewright.engine.tensor import Blocked, TensorType


def channels_last(dtype: Any, channels: int) -> Blocked:
    """All channels in one block of whole 16 bytes."""
    return layout.channels_last(TensorType(np.dtype(dtype), (1, channels, 1)))


def calls_of(node: Node) -> list[Call]:
    """What a node becomes."""
    load_kernels()
    return lower(node, Machine(ARCHITECTURES["sm_90"]))


def random(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Numbers of about 99, the same for the same shape."""
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * 99).astype(dtype)


def given(shape: tuple[int, ...], dtype: Any = np.float32, order: Blocked | None = None) -> tuple[Input, dict[Node, np.ndarray]]:
    """An operand, and its value."""
    data = random(shape, dtype)
    x = operand("x", data, order)
    return x, {x: data}
