"""Whole small graphs on the emulated GPU: the plan, its memory, several callers, and what is refused."""

from __future__ import annotations

import sys
import threading
import types

import numpy as np
import pytest
from cuda_harness import needs_compiler

import tilewright as tw
from tilewright.backends.common.storage import Storage
from tilewright.backends.cuda import cuda, kernel
from tilewright.backends.cuda.cupy_device import nearest
from tilewright.backends.cuda.executable import ALIGNMENT
from tilewright.backends.cuda_emulated import cuda_emulated
from tilewright.engine.backend import Itemized, Options
from tilewright.engine.errors import MachineError, ModelError, UnsupportedError
from tilewright.engine.expression import Operand, apply
from tilewright.engine.graph import Constant, Graph, Input, Node
from tilewright.engine.ops import Concat, Conv, Pointwise, Reshape, Slice

F4 = np.dtype(np.float32)
X, Y = map(Operand, range(2))


def graph_of(inputs: list[Input], **outputs: Node) -> Graph:
    return Graph(tuple(inputs), tuple(outputs.values()), tuple(outputs))


def region(tree: object, *nodes: Node) -> Pointwise:
    return Pointwise(nodes, expression=tree)  # pyright: ignore[reportArgumentType]


def small_graph() -> Graph:
    """A diamond with constants, a view, a slice of a view, an output that is an input, one that is a constant, and a repeated one."""
    x, y = Input(name="x", shape=(2, 3, 4, 8)), Input(name="y", shape=(3, 1, 1))
    weight = Constant(np.linspace(-1, 1, 8, dtype=np.float32))
    a = region(apply("silu", X * Y), x, y)
    b = region(X + Y, a, weight)
    c = region(apply("max", X, Y), a, b)
    flat = Reshape(c, shape=(2, 96))
    part = Slice(Reshape(c, shape=(192,)), starts=(16,), sizes=(64,), steps=(1,))
    d = region(apply("tanh", X), part)
    return graph_of([x, y], c=c, d=d, flat=flat, x=x, weight=weight, again=d)


def inputs_of(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {n.name: rng.standard_normal(n.type.shape).astype(n.type.dtype) for n in graph.inputs}


def check(graph: Graph, rng: np.random.Generator) -> tw.Session:
    """Equal to the reference backend in float64, twice with other inputs."""
    session = tw.compile(graph, backend="cuda_emulated", passes=[])
    judge = tw.compile(graph, backend="reference", precision="float64", passes=[])
    for _ in range(2):
        given = inputs_of(graph, rng)
        found = session.run(given)
        for name, wanted in judge.run(given).items():
            np.testing.assert_allclose(found[name], wanted, rtol=1e-6, atol=1e-6)
    return session


@needs_compiler
def test_a_small_graph(rng: np.random.Generator) -> None:
    session = check(small_graph(), rng)
    assert "4 steps, 4 kernels; emulated sm_90, fp32" in str(session.plan)


@needs_compiler
def test_kernels_are_shared_by_equal_steps(rng: np.random.Generator) -> None:
    value: Node = (x := Input(name="x", shape=(5, 16)))
    for _ in range(6):
        value = region(X * 0.5 + 1, value)
    session = check(graph_of([x], y=value), rng)
    assert "6 steps, 1 kernels" in str(session.plan)


@needs_compiler
def test_views_start_at_multiples_of_16_bytes(rng: np.random.Generator) -> None:
    """So that kernels may move so many at a time; a slice that starts elsewhere is a step of its own."""
    x = Input(name="x", shape=(64,))
    odd, even = (Slice(region(X + 1, x), starts=(start,), sizes=(8,), steps=(1,)) for start in (3, 4))
    graph = graph_of([x], a=region(X * 2, odd), b=region(X * 2, even))
    assert even in Storage(graph, ALIGNMENT).inside and odd not in Storage(graph, ALIGNMENT).inside
    assert odd in Storage(graph).inside
    check(graph_of([x], y=region(X * 2, even)), rng)


@needs_compiler
def test_a_slice_that_is_no_view_may_lie_in_a_concat(rng: np.random.Generator) -> None:
    """It starts at no multiple of 16 bytes of x, but at one of the Concat."""
    x = Input(name="x", shape=(64,))
    value = region(X + 1, x)
    odd = Slice(value, starts=(3,), sizes=(8,), steps=(1,))
    whole = Concat((Slice(value, starts=(0,), sizes=(4,), steps=(1,)), odd), axis=0)
    storage = Storage(graph_of([x], y=whole), ALIGNMENT)
    assert storage.inside[odd] == (whole, 16) and not storage.is_view(odd)
    check(graph_of([x], y=whole, z=region(X * 2, odd)), rng)


@needs_compiler
def test_empty_and_single_values(rng: np.random.Generator) -> None:
    x, y = Input(name="x", shape=(0, 3)), Input(name="y", shape=())
    check(graph_of([x, y], e=region(X + 1, x), s=region(apply("exp", X), y)), rng)


@needs_compiler
def test_several_callers_at_once(rng: np.random.Generator) -> None:
    graph = small_graph()
    executable = cuda_emulated(Options()).compile(graph)
    given = [list(inputs_of(graph, rng).values()) for _ in range(3)]
    wanted = [executable.run(arrays) for arrays in given]
    wrong = []

    def work(i: int) -> None:
        for _ in range(10):
            wrong.extend(not np.array_equal(a, b) for a, b in zip(executable.run(given[i]), wanted[i], strict=True))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 3 * 10 * 6 and not any(wrong)


@needs_compiler
def test_given_arrays_are_filled(rng: np.random.Generator) -> None:
    graph = small_graph()
    executable = cuda_emulated(Options()).compile(graph)
    given = list(inputs_of(graph, rng).values())
    fresh = executable.run(given)
    out = [np.zeros(o.type.shape, o.type.dtype) for o in graph.outputs]
    assert all(a is b for a, b in zip(executable.run(given, out), out, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(fresh, out, strict=True))
    strided = [np.asfortranarray(a) for a in given]
    assert all(np.array_equal(a, b) for a, b in zip(fresh, executable.run(strided), strict=True))
    assert [name for name, _ in executable.profile(given, 2)] == ["pointwise [pointwise]"] * 4
    assert isinstance(executable, Itemized) and [family for _, family in executable.items()] == ["pointwise"] * 4
    assert all(seconds > 0 for seconds in executable.profile_alone(given, (Pointwise,), 2))
    assert not any(executable.profile_alone(given, (Conv,), 2))


@needs_compiler
def test_everything_without_a_kernel_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = Input(name="x", shape=(1, 3, 8, 8))
    weight = Constant(np.zeros((4, 3, 3, 3), np.float32))
    first, second = (Conv(x, weight, epilogue=apply("fmod", X, 2.0), origin=(name,)) for name in ("stem", "side"))
    odd = region(apply("exp", X), Constant(np.zeros(3, np.int32)))
    graph = graph_of([x], a=first, b=second, c=odd)
    backend = cuda_emulated(Options())
    monkeypatch.delitem(kernel.LOWERINGS, Conv)
    with pytest.raises(UnsupportedError) as caught:
        backend.compile(graph)
    text = str(caught.value)
    assert "conv (stem)" in text and "conv (side)" in text and "exp of int32" in text and "backend='cpu'" in text


@needs_compiler
def test_options_that_are_refused() -> None:
    with pytest.raises(ModelError, match=r"precision='int3': the cuda backend computes in fp32, tf32x3, tf32, bf16, fp16$"):
        cuda_emulated(Options(precision="int3"))
    with pytest.raises(ModelError, match="no such products"):
        cuda_emulated(Options(precision="bf16", target="sm_75"))
    with pytest.raises(ModelError, match="expected one of sm_75"):
        cuda_emulated(Options(target="avx2"))
    assert cuda_emulated(Options(precision="tf32", target="sm_80")).machine.precision == "tf32"
    for alias, name in (("float32", "fp32"), ("float16", "fp16"), ("bfloat16", "bf16")):
        assert cuda_emulated(Options(precision=alias)).machine.precision == name


def test_both_spellings_of_its_name() -> None:
    x = Input(name="x", shape=(4,))
    with pytest.raises(ModelError, match="no architecture 'nothing': expected one of sm_75, "):
        tw.compile(graph_of([x], y=region(X + 1, x)), backend="cuda-emulated", target="nothing")


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MachineError, match=r'pip install "tilewright\[cuda13\]"'):
        cuda(Options())


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = types.SimpleNamespace(
        cuda=types.SimpleNamespace(is_available=lambda: False, runtime=types.SimpleNamespace(runtimeGetVersion=lambda: 13020))
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(MachineError, match=r"no NVIDIA GPU.*older than CUDA 13 needs"):
        cuda(Options())


def test_the_architecture_of_a_gpu() -> None:
    assert nearest(90).name == "sm_90" and nearest(88).name == "sm_87" and nearest(121).name == "sm_121"
    with pytest.raises(MachineError, match=r"compute capability 7\.0"):
        nearest(70)
