"""The cpu backend's kernels for NEON: real plans linked into an aarch64 program, run under qemu, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from neon_emulation import MISSING, NEON, EmulatedProgram, Kernels, neon
from runtime_kernels import TextKernel

import tilewright as tw
from tilewright.backends.cpu.program import ProgramStep
from tilewright.frontends.dsl import (
    Model,
    Value,
    average_pool,
    batch_norm,
    concat,
    conv,
    conv_transpose,
    elu,
    exp,
    flatten,
    gelu,
    global_average_pool,
    hard_swish,
    linear,
    log,
    max_pool,
    mish,
    model,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
    total,
    transpose,
    upsample,
)

executed = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@model(x=(1, 20, 9, 11))
def direct(x: Value) -> Value:
    """Edges, strides, dilation, groups within and across vectors, rows and columns, one image channel group."""
    y = relu(conv(x, 24, 3, pad=1))
    y = conv(y, 18, 3, stride=2, pad=1) + conv(y, 18, 1, stride=2)
    y = conv(y, 12, (1, 5), pad=((0, 0), (2, 2)), groups=2)
    return conv(y, 9, (3, 1), dilation=2, pad=((2, 2), (0, 0)), groups=3)


@model(x=(2, 3, 21, 19))
def stem(x: Value) -> Value:
    """Three channels as they come, two images."""
    return relu(batch_norm(conv(x, 10, 7, stride=2, pad=3)))


@model(x=(1, 10, 13, 17))
def depthwise(x: Value) -> Value:
    """Both strides and kernels that mobile networks use."""
    y = silu(conv(x, 10, 3, pad=1, groups=10))
    return concat(conv(y, 10, 5, stride=2, pad=2, groups=10), conv(y, 10, 3, stride=2, pad=1, groups=10))


@model(x=(1, 32, 14, 13))
def winograd(x: Value) -> Value:
    """A residual block."""
    y = relu(conv(x, 32, 3, pad=1))
    return relu(conv(y, 32, 3, pad=1) + x)


@model(x=(1, 3, 46, 38))
def more_winograd(x: Value) -> Value:
    """A first layer whose stride is folded into channels, 5 x 5, stride 2, 1 x 7 and 7 x 1."""
    y = relu(conv(x, 32, 7, stride=2, pad=3))
    y = conv(relu(conv(y, 32, (1, 7), pad=(0, 3))), 32, (7, 1), pad=(3, 0))
    return conv(relu(conv(y, 32, 5, pad=2)), 32, 3, stride=2, pad=1)


@model(x=(1, 7, 12, 10))
def pooling(x: Value) -> Value:
    """Windows that hang over the edges, and reductions over everything."""
    y = concat(max_pool(x, 3, stride=2, pad=1), average_pool(x, 3, stride=2, pad=1), max_pool(x, 2))
    return concat(y * global_average_pool(y), y - total(y, 1))


@model(x=(1, 6, 5, 7))
def pointwise(x: Value) -> Value:
    """Vector mathematics."""
    curves = (sigmoid, tanh, exp, silu, gelu, mish, softplus, hard_swish, elu)
    return concat(*(curve(x) for curve in curves), log(exp(x) + 0.5))


@model(x=(3, 11, 4, 5))
def classifier(x: Value) -> Value:
    """Softmax over channels and over features, two products."""
    y = softmax(conv(x, 13, 1), axis=1)
    return softmax(linear(relu(linear(flatten(y), 21)), 10))


@model(x=(1, 8, 4, 5))
def decoder(x: Value) -> Value:
    """Transposed convolution, resizing, a change of axes."""
    y = relu(conv_transpose(x, 6, 3, stride=2, pad=1, output_pad=1))
    return transpose(concat(upsample(y, 2), upsample(y, 2, mode="linear")), (0, 2, 3, 1))


NETWORKS: dict[Model, set[str]] = {
    direct: {"directconv"},
    stem: {"directconv"},
    depthwise: {"depthwiseconv"},
    winograd: {"winograd"},
    more_winograd: {"winograd", "spacetodepth"},
    pooling: {"pool", "reduce"},
    pointwise: {"pointwise"},
    classifier: {"softmaxrows", "directconv"},
    decoder: {"directconv", "resize", "copy"},
}
"""And the kernels that each must use."""
TOLERANCE = 1e-5
"""max |difference| / max |output|"""


def name(parameter: Model | str) -> str:
    return parameter if isinstance(parameter, str) else parameter.name


@pytest.mark.parametrize("network", NETWORKS, ids=name)
def test_links_without_an_emulator(network: Model) -> None:
    """Every kernel is emitted, compiled and linked; none is Numba's, none is left to NumPy."""
    made = neon().compile(tw.optimize(tw.load(network)))
    assert NETWORKS[network] <= {family for _, family in made.items()}, made.describe()
    assert {step.engine for step in made.steps} == {"vector"}, made.describe()


@executed
@pytest.mark.parametrize(("network", "accuracy"), [*((network, "fast") for network in NETWORKS), (winograd, "exact")], ids=name)
def test_numbers(network: Model, accuracy: str, rng: np.random.Generator) -> None:
    graph = tw.load(network)
    (given,) = graph.inputs
    x = rng.standard_normal(given.type.shape).astype(np.float32)
    wanted = tw.compile(graph, backend="reference", precision="float64", passes=[])(x)
    found = tw.compile(graph, backend=neon(accuracy))(x)
    assert found.shape == wanted.shape and found.dtype == np.float32
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def emulated(body: str) -> np.ndarray:
    """A result of two numbers after three units of work."""
    kernels, kernel = Kernels(), TextKernel(body)
    address = kernels.load([kernel], NEON)[kernel.symbol]
    program = EmulatedProgram(kernels, [ProgramStep(address, (0, 0, 1, 0, 7), 3, 2)])
    memory = np.array([5, 0]), np.array([1, 2])
    program.sizes = [array.nbytes for array in memory]
    program.run_range([array.ctypes.data for array in memory], 0, 1)
    return memory[1]


ADD = """
  %at = getelementptr i64, ptr %result, i64 {index}
  %old = load i64, ptr %at
  %new = add i64 %old, %fifth
  store i64 %new, ptr %at
"""


@executed
def test_what_goes_wrong_is_noticed() -> None:
    assert emulated(ADD.format(index=1)).tolist() == [1, 2 + 3 * 7]
    with pytest.raises(AssertionError, match="the emulated program ended with"):
        emulated(ADD.format(index=2))
    with pytest.raises(AssertionError, match="in front"):
        emulated(ADD.format(index=-1))
