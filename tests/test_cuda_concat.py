"""Concats on the emulated GPU whose operands are computed among the channels of the result: when, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_harness import load_kernels, needs_compiler
from small_networks import dense_blocks

import tilewright as tw
from tilewright.backends.common.nest_concats import nest_concats
from tilewright.backends.cuda import in_precision
from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.device import EmulatedDevice
from tilewright.backends.cuda.emulator.launch import BASIC
from tilewright.backends.cuda.executable import CudaExecutable
from tilewright.backends.cuda.kernel import Machine
from tilewright.backends.cuda.layout import assign_layouts
from tilewright.backends.cuda.plan import Plan
from tilewright.engine.compiler import load_source, optimize
from tilewright.engine.expression import Operand, apply
from tilewright.engine.graph import Constant, Graph, Input, Node
from tilewright.engine.ops import AveragePool, Concat, Conv, ConvTranspose, MaxPool, Pointwise, Reduce, Resize, Slice, Softmax
from tilewright.frontends.dsl import Value, max_pool, model, scope
from tilewright.models.squeezenet import fire

SUM, SIDE = Operand(0), Operand(1)
RELU = apply("relu", SUM)
SM_90 = ARCHITECTURES["sm_90"]


@model(image=("batch=1", 3, 13, 14))
def two_fires(image: Value) -> Value:
    """As in SqueezeNet, which pools between its fires now and then."""
    with scope("first"):
        x = max_pool(fire(image, 8, 12), 2)
    with scope("second"):
        return fire(x, 8, 20)


def image() -> Input:
    return Input(name="x", shape=(2, 8, 5, 6))


def conv(x: Node, channels: int, *extras: Node, kernel: int = 1, groups: int = 1, epilogue: Any = RELU) -> Conv:
    rng = np.random.default_rng(channels + 7 * kernel)
    weight = Constant((rng.standard_normal((channels, x.type.shape[1] // groups, kernel, kernel)) / 3).astype(np.float32))
    bias = Constant(rng.standard_normal(channels).astype(np.float32))
    return Conv(x, weight, bias, extras, pads=((kernel // 2, kernel // 2),) * 2, groups=groups, epilogue=epilogue)


def twice_as_large(x: Node, channels: int) -> ConvTranspose:
    weight = np.random.default_rng(channels).standard_normal((x.type.shape[1], channels, 2, 2)) / 3
    return ConvTranspose(x, Constant(weight.astype(np.float32)), strides=(2, 2))


def largest(x: Node) -> MaxPool:
    return MaxPool(x, kernel=(3, 3), pads=((1, 1), (1, 1)))


def graph_of(x: Input, *outputs: Node) -> Graph:
    return Graph((x,), outputs, tuple(f"y{i}" for i in range(len(outputs))))


def laid_out(graph: Graph, precision: str) -> Graph:
    """As the backend does it."""
    return assign_layouts(nest_concats(in_precision(graph, precision)))


def plan_of(graph: Graph, precision: str = "fp32") -> Plan:
    load_kernels()
    return Plan(laid_out(graph, precision), Machine(SM_90, precision))


def copied(graph: Graph, precision: str = "fp32") -> list[int]:
    """How many operands each Concat copies, one number for each of its steps."""
    steps = plan_of(graph, precision).steps
    return [len(step.places) - 1 for step in steps if isinstance(step.node, Concat)]


def check(graph: Graph, precision: str = "fp32", tolerance: float = 1e-5) -> None:
    """Close to float64, and the same bits in every schedule; memory that nobody wrote is not a number."""
    load_kernels()
    rng = np.random.default_rng(3)
    given = {n.name: rng.standard_normal(n.type.shape).astype(np.float32) for n in graph.inputs}
    wanted = tw.compile(graph, backend="reference", precision="float64", passes=[]).run(given)
    first = list[np.ndarray]()
    for schedule in BASIC:
        device: Any = EmulatedDevice("sm_90", schedule)
        found = CudaExecutable(laid_out(graph, precision), Machine(SM_90, precision), device).run(list(given.values()))
        first = first or found
        assert all(np.array_equal(a, b) for a, b in zip(first, found, strict=True)), schedule
    for (name, value), a in zip(wanted.items(), first, strict=True):
        np.testing.assert_allclose(a, value, atol=tolerance * np.abs(value).max(initial=0), err_msg=name)


def branches() -> tuple[Graph, list[int]]:
    """Convolutions and a pool in front, behind a copied operand, and as the last; then what is no convolution."""
    x = image()
    y = Concat((conv(x, 12), largest(x), Softmax(conv(x, 8), axis=1), conv(x, 20, kernel=3), conv(x, 8)), axis=1)
    return graph_of(x, conv(y, 5, kernel=3)), [1]


def residuals() -> tuple[Graph, list[int]]:
    """Operands that add another value in their epilogue, one of them the Concat before."""
    x = image()
    first = Concat((conv(x, 4), conv(x, 8, kernel=3)), axis=1)
    second = Concat((conv(first, 12, first, epilogue=SUM + SIDE), conv(first, 8, largest(x), epilogue=RELU * SIDE)), axis=1)
    return graph_of(x, Pointwise((second,), expression=apply("tanh", SUM))), []


def repeated() -> tuple[Graph, list[int]]:
    """One operand twice: it is copied twice."""
    x = image()
    a = conv(x, 8)
    return graph_of(x, largest(Concat((a, conv(x, 12), a), axis=1))), [2]


def output() -> tuple[Graph, list[int]]:
    """Operands that others want, too: the caller, layers that go by strides, and one that does not."""
    x = image()
    a, b, c = conv(x, 8), conv(x, 12), conv(x, 4)
    return graph_of(x, largest(Concat((a, b, c), axis=1)), a, largest(b), Reduce(c, kind="sum", axes=(2, 3))), [1]


def odd() -> tuple[Graph, list[int]]:
    """Channels that fill no vectors: neither they nor what comes behind them starts where kernels can write."""
    x = image()
    return graph_of(x, largest(Concat((conv(x, 8), conv(x, 7), conv(x, 16), conv(x, 9), conv(x, 12)), axis=1))), [3]


def chained() -> tuple[Graph, list[int]]:
    """As in DenseNet: every Concat begins with what came before, which is read by others, too."""
    x = image()
    y: Node = conv(x, 12)
    for _ in range(3):
        y = Concat((y, conv(conv(y, 16), 8, kernel=3)), axis=1)
    return graph_of(x, Pointwise((y,), expression=SUM * 2)), []


def exported() -> tuple[Graph, list[int]]:
    """The same as exporters write it: every layer concatenates all earlier ones anew."""
    x = image()
    layers: list[Node] = [largest(x), conv(x, 12)]
    for _ in range(3):
        layers.append(conv(conv(Concat(tuple(layers), axis=1), 16), 8, kernel=3))
    return graph_of(x, Pointwise((Concat(tuple(layers), axis=1),), expression=SUM * 2)), []


def grouped_and_transposed() -> tuple[Graph, list[int]]:
    """Products in stacks, and in phases."""
    x = Input(name="x", shape=(2, 64, 3, 4))
    y = Concat((twice_as_large(x, 12), conv(twice_as_large(x, 64), 64, kernel=3, groups=2), twice_as_large(x, 8)), axis=1)
    return graph_of(x, largest(y)), []


def of_images() -> tuple[Graph, list[int]]:
    """Of single images, the channels of which are concatenated first: both lie in the one result."""
    x = Input(name="x", shape=(1, 8, 5, 6))
    pairs = [Concat((conv(x, 8, kernel=k), conv(x, 12)), axis=1) for k in (1, 3)]
    return graph_of(x, largest(Concat(tuple(pairs), axis=0))), []


def read_by_all() -> tuple[Graph, list[int]]:
    """Every kind of kernel that goes by strides reads, and some write, among other channels."""
    x = image()
    start = Concat((conv(x, 12), conv(x, 4)), axis=1)
    alone = Resize(largest(x), shape=(2, 8, 10, 12), scales=(1.0, 1.0, 2.0, 2.0))
    shift, whole_map = (Constant(np.random.default_rng(5).standard_normal(shape).astype(np.float32)) for shape in ((16, 1, 1), (16, 5, 6)))
    parts = (
        conv(start, 16, kernel=3, groups=16),
        conv(start, 16, kernel=3, groups=4),
        Pointwise((start, shift, whole_map, Reduce(x, kind="mean", axes=(1, 2, 3))), expression=SUM * SIDE + Operand(2) * Operand(3)),
        AveragePool(start, kernel=(3, 3), pads=((1, 1), (1, 1))),
        conv(conv(x, 16, kernel=3), 16, start, epilogue=SUM * SIDE),
    )
    whole = Concat((start, *parts), axis=1)
    tall = Concat((twice_as_large(start, 8), alone), axis=1)
    return graph_of(x, largest(whole), largest(tall), conv(start, 8, kernel=5)), []


def narrow() -> tuple[Graph, list[int]]:
    """Four channels, which the kernel of first convolutions reads; and one position, which a product of few rows reads."""
    x = Input(name="x", shape=(2, 4, 3, 3))
    few, single = conv(x, 4), MaxPool(conv(x, 8), kernel=(3, 3))
    one = Concat((single, conv(single, 12)), axis=1)
    return graph_of(
        x, largest(Concat((conv(x, 8), few), axis=1)), conv(few, 8, kernel=3), conv(conv(one, 8), 16), conv(single, 20), single
    ), []


def shrunk() -> tuple[Graph, list[int]]:
    """A resize of so many taps that it goes axis by axis, through memory of its own."""
    x = Input(name="x", shape=(2, 8, 40, 36))
    small = Resize(largest(x), shape=(2, 8, 4, 4), scales=(1.0, 1.0, 0.1, 1 / 9), mode="linear", antialias=True)
    return graph_of(x, largest(Concat((conv(small, 12), small), axis=1))), []


def shared() -> tuple[Graph, list[int]]:
    """Two Concats that read one operand: it lies in the last and is copied to the first."""
    x = image()
    a, b = conv(x, 8), conv(x, 12)
    return graph_of(x, largest(Concat((a, conv(x, 4)), axis=1)), largest(Concat((b, a), axis=1))), [1]


CASES = [
    branches,
    residuals,
    repeated,
    output,
    odd,
    chained,
    exported,
    grouped_and_transposed,
    of_images,
    read_by_all,
    narrow,
    shared,
    shrunk,
]


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_parts_are_computed_in_their_place(case: Any) -> None:
    graph, steps = case()
    assert copied(graph) == steps
    check(graph)


@needs_compiler
@pytest.mark.parametrize("case, steps", [(branches, [4]), (chained, [2, 2, 2])])
def test_in_float16(case: Any, steps: list[int]) -> None:
    """Vectors of eight: what starts or ends between two of them is copied."""
    graph, _ = case()
    assert copied(graph, "fp16") == steps
    check(graph, "fp16", 2e-2)


def test_values_of_no_channels() -> None:
    x = image()
    a = conv(x, 8)
    empty = Slice(a, starts=(0, 0, 0, 0), sizes=(2, 0, 5, 6), steps=(1, 1, 1, 1))
    check(graph_of(x, largest(Concat((a, empty, conv(x, 4)), axis=1)), empty))


def test_memory_is_taken_from_the_first_part_on() -> None:
    """Every step's result, and all that is read later, lie apart."""
    x = image()
    first = conv(x, 16)
    between = conv(conv(x, 32), 16, kernel=3)
    plan = plan_of(graph_of(x, largest(Concat((first, between), axis=1))))
    (whole,) = (n for n in plan.graph if isinstance(n, Concat))
    a, b = whole.inputs
    assert plan.storage[b].offset == plan.storage[a].offset + 64 and plan.storage[a] == plan.storage[whole]
    assert plan.storage.live_bound >= whole.type.nbytes + b.operands[0].type.nbytes


@needs_compiler
@pytest.mark.parametrize(
    "network, size, convolutions", [(two_fires, (13, 14), 4), (dense_blocks, (50, 54), 3)], ids=["two_fires", "dense_blocks"]
)
def test_networks(network: Any, size: tuple[int, int], convolutions: int) -> None:
    """All that expand, or those of the first dense block, write where they belong; in front of the second's lie 30 channels."""
    graph = optimize(load_source(network).graph({"image": (1, 3, *size)}, {}))
    storage = plan_of(graph).storage
    assert sum(isinstance(n, Conv) and isinstance(storage.inside.get(n, (None,))[0], Concat) for n in storage.graph) == convolutions
    if network is two_fires:
        assert copied(graph) == []
        check(graph)
