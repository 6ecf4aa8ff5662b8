"""The kernels of every operator but products and pointwise regions as machine code: sizes of real networks, no spills."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cuda_cases import calls_of, channels_last
from cuda_harness import check_compiles, needs_nvrtc

from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.engine.graph import Input, Node
from tilewright.engine.ops import (
    GRU,
    LRN,
    LSTM,
    ArgMaxPool,
    ArgReduce,
    AveragePool,
    BatchNorm,
    Concat,
    CumSum,
    Gather,
    GatherND,
    MaxPool,
    Pad,
    Reduce,
    Reorder,
    Resize,
    ScatterElements,
    Slice,
    Softmax,
    TopK,
    Transpose,
)  # fmt: skip

F2, F4, F8 = np.float16, np.float32, np.float64
WINDOW: dict[str, Any] = {"kernel": (3, 3), "strides": (2, 2), "pads": ((1, 1), (1, 1))}


def last(shape: tuple[int, ...], dtype: Any = F4) -> Input:
    """A value with channels last."""
    return Input(name="x", shape=shape, dtype=np.dtype(dtype), layout=channels_last(dtype, shape[1]))


def plain(shape: tuple[int, ...], dtype: Any = F4) -> Input:
    return Input(name="x", shape=shape, dtype=np.dtype(dtype))


def enlarged(x: Input, **attributes: Any) -> Resize:
    n, c, h, w = x.type.shape
    return Resize(x, shape=(n, c, 2 * h, 2 * w), scales=(1.0, 1.0, 2.0, 2.0), layout=x.layout, **attributes)


def recurrent(kind: Any, gates: int, dtype: Any) -> Node:
    weights = [plain((2, gates * 256, n), dtype) for n in (128, 256)]
    return kind(plain((40, 2, 128), dtype), *weights, plain((2, 2 * gates * 256), dtype), direction="bidirectional")


CASES: dict[str, Callable[[], Node]] = {
    "max pool": lambda: MaxPool(x := last((1, 64, 112, 112)), layout=x.layout, **WINDOW),
    "max pool of halves": lambda: MaxPool(x := last((1, 64, 112, 112), F2), layout=x.layout, **WINDOW),
    "average pool": lambda: AveragePool(plain((1, 64, 35, 35)), **WINDOW),
    "average pool in space": lambda: AveragePool(x := last((1, 32, 8, 28, 28)), kernel=(2, 3, 3), ceil_mode=True, layout=x.layout),
    "positions of maxima": lambda: ArgMaxPool(plain((1, 64, 32, 32)), kernel=(2, 2), strides=(2, 2)),
    "picture to channels last": lambda: Reorder(plain((1, 3, 224, 224)), layout=channels_last(F4, 3)),
    "to channels last": lambda: Reorder(plain((1, 64, 56, 56)), layout=channels_last(F4, 64)),
    "from channels last": lambda: Reorder(last((1, 64, 56, 56), F2)),
    "transpose": lambda: Transpose(plain((12, 49, 3, 32), np.int8), permutation=(2, 0, 3, 1)),
    "slice": lambda: Slice(plain((9, 9, 9), np.int64), starts=(8, 0, 1), sizes=(4, 9, 3), steps=(-2, 1, 2)),
    "concat": lambda: Concat((last((1, 36, 14, 14)),) * 5, axis=1, layout=channels_last(F4, 180)),
    "pad": lambda: Pad(last((1, 64, 56, 56)), pads=((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect", layout=channels_last(F4, 64)),
    "global average": lambda: Reduce(x := last((1, 2048, 7, 7)), kind="mean", axes=(2, 3), layout=x.layout),
    "sums of halves": lambda: Reduce(plain((1, 3136, 96), F2), kind="sum", axes=(2,)),
    "sum of everything": lambda: Reduce(plain((8, 1000, 77), np.int32), kind="mean", axes=(0, 1, 2)),
    "products": lambda: Reduce(plain((40, 30, 20), F8), kind="prod", axes=(1,)),
    "softmax of classes": lambda: Softmax(plain((1, 1000)), axis=1),
    "softmax of scores": lambda: Softmax(plain((12, 197, 197), F2), axis=2),
    "log softmax of channels": lambda: Softmax(plain((1, 21, 65, 65), F8), axis=1, log=True),
    "position of the largest": lambda: ArgReduce(last((1, 21, 128, 128)), kind="max", axis=1),
    "response normalisation": lambda: LRN(x := last((1, 64, 56, 56)), size=5, layout=x.layout),
    "batch normalisation": lambda: BatchNorm(x := last((1, 64, 9, 9), F2), *[plain((64,), F2)] * 4, layout=x.layout),
    "nearest": lambda: enlarged(last((1, 256, 20, 20))),
    "bilinear": lambda: enlarged(last((1, 256, 20, 20), F2), mode="linear"),
    "bicubic": lambda: enlarged(plain((1, 3, 99, 99), np.uint8), mode="cubic"),
    "antialiased": lambda: Resize(
        plain((1, 3, 640, 480)), shape=(1, 3, 224, 224), scales=(1, 1, 0.35, 0.4667), mode="linear", antialias=True
    ),
    "gather": lambda: Gather(plain((50, 64)), plain((7,), np.int32), axis=0),
    "gather of tuples": lambda: GatherND(plain((5, 6, 7), np.int8), plain((4, 2), np.int64)),
    "scatter": lambda: ScatterElements(plain((9, 80)), plain((9, 12), np.int64), plain((9, 12)), axis=1, reduction="add"),
    "largest": lambda: TopK(plain((1, 8400)), k=100, axis=1),
    "running sums": lambda: CumSum(plain((4, 5000)), axis=1),
    "lstm": lambda: recurrent(LSTM, 4, F4),
    "gru": lambda: recurrent(GRU, 3, F2),
}
SOME = [ARCHITECTURES[name] for name in ("sm_75", "sm_90")]


@needs_nvrtc
@pytest.mark.parametrize("name", CASES)
def test_machine_code(name: str) -> None:
    for call in calls_of(CASES[name]()):
        check_compiles(call.kernel, SOME)


@needs_nvrtc
@pytest.mark.sweep
@pytest.mark.parametrize("name", CASES)
def test_machine_code_for_every_architecture(name: str) -> None:
    for call in calls_of(CASES[name]()):
        check_compiles(call.kernel)
