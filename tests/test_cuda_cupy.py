"""The real host code for GPUs over a small CuPy of the tests: copies, graphs, several callers, arrays on the device, what goes wrong."""

from __future__ import annotations

import shutil
import sys
import threading
import types

import numpy as np
import pytest
from command_line import Command
from cuda_harness import TextKernel, needs_compiler
from fake_cupy import FakeCupy
from fake_cupy_memory import Array, BothProtocols, OnlyDlpack

import tilewright as tw
from tilewright.backends.cuda import cupy_device
from tilewright.backends.cuda.conv_implicit_gemm import ImplicitGemmKernel
from tilewright.backends.cuda.cupy_device import CupyDevice
from tilewright.engine.errors import MachineError, ModelError, UnsupportedError
from tilewright.engine.expression import Operand, apply
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import Conv, Pointwise
from tilewright.models import lenet5

X, Y = Operand(0), Operand(1)
pytestmark = needs_compiler


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    return FakeCupy().install(monkeypatch)


def two_steps() -> Graph:
    """Two steps that are not fused, with a constant; two inputs and two outputs."""
    x, y = Input(name="x", shape=(3, 8)), Input(name="y", shape=(8,))
    a = Pointwise((x, Constant(np.linspace(-1, 1, 8, dtype=np.float32))), expression=X * Y)
    b = Pointwise((a, y), expression=apply("silu", X + Y))
    return Graph((x, y), (a, b), ("a", "b"))


def given(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": rng.standard_normal((3, 8)).astype("f4"), "y": rng.standard_normal(8).astype("f4")}


def wanted(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return tw.compile(two_steps(), backend="reference", passes=[]).run(inputs)


def assert_same(found: dict[str, np.ndarray], inputs: dict[str, np.ndarray]) -> None:
    for name, value in wanted(inputs).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_arrays_of_the_host(cupy: FakeCupy, rng: np.random.Generator) -> None:
    session = tw.compile(two_steps(), backend="cuda", passes=[])
    assert "Fake GPU (sm_90), fp32" in session.plan
    for _ in range(3):
        inputs = given(rng)
        assert_same(session.run({"x": np.asfortranarray(inputs["x"]), "y": inputs["y"]}), inputs)
    graphs = [event for event in cupy.events if event.startswith("graph")]
    names = [step.kernel.name for step in session.executable.steps]  # pyright: ignore[reportAttributeAccessIssue]
    assert graphs == [f"graph {', '.join(names)}"] and cupy.events.count("replay") == 3
    assert not any(name in cupy.events for name in names), "a kernel was launched by itself"
    assert cupy.events[-5:] == ["upload", "upload", "replay", "download", "download"]
    allocated = sum(event.startswith("alloc") for event in cupy.events)
    session.run(given(rng))
    assert sum(event.startswith("alloc") for event in cupy.events) == allocated, "a run allocated memory"


def test_a_network(cupy: FakeCupy, rng: np.random.Generator) -> None:
    image = rng.random((2, 1, 28, 28), np.float32)
    found = tw.compile(lenet5, backend="cuda")(image)
    np.testing.assert_allclose(found, tw.compile(lenet5, backend="reference", precision="float64")(image), rtol=1e-4, atol=1e-5)


def test_arrays_of_the_device_stay_there(cupy: FakeCupy, rng: np.random.Generator) -> None:
    session = tw.compile(two_steps(), backend="cuda", passes=[])
    inputs = given(rng)
    session.run(inputs)
    cupy.events.clear()
    found = session.run({"x": BothProtocols(cupy.array(inputs["x"])), "y": OnlyDlpack(cupy.array(inputs["y"]))})
    assert all(isinstance(value, Array) for value in found.values())
    assert_same({name: value.get() for name, value in found.items()}, inputs)
    assert "upload" not in cupy.events and "download" not in cupy.events
    assert_same({name: value.get() for name, value in session.run({**inputs, "x": cupy.array(inputs["x"])}).items()}, inputs)


def test_results_in_given_arrays(cupy: FakeCupy, rng: np.random.Generator) -> None:
    session, inputs = tw.compile(two_steps(), backend="cuda", passes=[]), given(rng)
    on_device, here = cupy.empty((3, 8), np.float32), np.zeros((3, 8), np.float32)
    found = session.run(inputs, out={"a": on_device, "b": here})
    assert found["a"] is on_device and found["b"] is here
    assert_same({"a": on_device.get(), "b": here}, inputs)
    strided = Array(cupy, on_device.data, (3, 8), np.dtype("f4"), contiguous=False)
    cupy.events.clear()
    with pytest.raises(ModelError, match="expected a C-contiguous array"):
        session.run(inputs, out={"a": strided, "b": here})
    assert not cupy.events, "something was started before the array was refused"
    with pytest.raises(ModelError, match=r"expected an array f32\[3,8\]"):
        session.run(inputs, out={"a": cupy.empty((8, 3), np.float32), "b": here})
    with pytest.raises(ModelError, match="expected dtype float32, got float64"):
        session.run({**inputs, "y": cupy.array(np.zeros(8))})
    with pytest.raises(ModelError, match="the cuda backend takes such arrays"):
        tw.compile(two_steps(), backend="reference").run({**inputs, "y": cupy.array(inputs["y"])})
    assert_same(session.run(inputs), inputs)


def test_memory_that_the_caller_still_uses(cupy: FakeCupy, rng: np.random.Generator) -> None:
    """What the caller has given back is ours at once, and is written by the caller's stream before it is by ours."""

    def leave(nbytes: int) -> None:
        cupy.array(np.full(nbytes, 99, np.uint8))

    for nbytes in (16, 32, 96, 256, 512):
        leave(nbytes)
    session, inputs = tw.compile(two_steps(), backend="cuda", passes=[]), given(rng)
    assert not cupy.free[256], "the constants do not lie where the caller's array was"
    for nbytes in (16, 32, 96, 256, 512):
        leave(nbytes)
    found = session.run(inputs)
    cupy.null.synchronize()
    assert_same(found, inputs)
    assert_same(session.run(inputs), inputs)


def test_an_error_leaves_nothing_running(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    session, inputs = tw.compile(two_steps(), backend="cuda", passes=[]), given(rng)
    session.run(inputs)
    (context,) = session.executable._contexts  # pyright: ignore[reportAttributeAccessIssue]

    def refuse(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tilewright.backends.cuda.cupy_device.CupyStream.download", refuse)
        with pytest.raises(KeyboardInterrupt):
            session.run(inputs)
    assert not context.stream.stream.work and not session.executable._contexts  # pyright: ignore[reportAttributeAccessIssue]
    assert_same(session.run(inputs), inputs)


def test_several_sessions_and_threads(cupy: FakeCupy, rng: np.random.Generator) -> None:
    sessions = [tw.compile(two_steps(), backend="cuda", passes=[]) for _ in range(2)]
    inputs = [given(rng) for _ in range(4)]
    answers, wrong = [wanted(i) for i in inputs], list[str]()
    start = threading.Barrier(len(inputs))

    def work(i: int) -> None:
        start.wait()
        for turn in range(12):
            found = sessions[(i + turn) % 2].run(inputs[i])
            wrong.extend(n for n, value in answers[i].items() if not np.allclose(found[n], value, rtol=1e-5, atol=1e-6))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for session in sessions:
        contexts = session.executable._contexts  # pyright: ignore[reportAttributeAccessIssue]
        assert len({id(c.memories[0]) for c in contexts}) == len(contexts) <= len(inputs)


def test_profile_times_kernels_by_events(cupy: FakeCupy, rng: np.random.Generator) -> None:
    session = tw.compile(two_steps(), backend="cuda", passes=[])
    cupy.events.clear()
    steps = session.profile(*given(rng).values(), repeats=2)
    assert len(steps) == 2 and all(seconds > 0 for _, seconds in steps)
    assert cupy.events.count("replay") == 2 * 3 and sum(event.startswith("graph") for event in cupy.events) == 2 + 1
    with pytest.raises(ModelError, match="expected NumPy arrays"):
        session.profile(*[cupy.array(a) for a in given(rng).values()])  # pyright: ignore[reportArgumentType]


def test_compiling_ahead_loads_nothing(cupy: FakeCupy) -> None:
    kernel = TextKernel((), "")
    CupyDevice().prepare([kernel])
    assert kernel in cupy.known.values() and not cupy.events


def test_a_full_device(cupy: FakeCupy, rng: np.random.Generator) -> None:
    session = tw.compile(two_steps(), backend="cuda", passes=[])
    cupy.room = 64
    with pytest.raises(MachineError, match=r"the GPU's memory is full, asked for 0\.0 MiB for input x: Out of memory"):
        session.run(given(rng))
    cupy.room = 1 << 30
    inputs = given(rng)
    assert_same(session.run(inputs), inputs)
    cupy.room = 16
    with pytest.raises(MachineError, match="for the constants"):
        tw.compile(two_steps(), backend="cuda", passes=[])


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch, cli: Command) -> None:
    FakeCupy(devices=0).install(monkeypatch)
    with pytest.raises(MachineError, match="found no NVIDIA GPU"):
        tw.compile(two_steps(), backend="cuda")
    monkeypatch.setitem(sys.modules, "cupy", None)
    text = cli("list", "backends").out  # type: ignore[operator]
    assert (
        'cuda           not here: the cuda backend needs the package cupy, which is not installed: pip install "tilewright[cuda13]"' in text
    )


def test_an_old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCupy(capability="61").install(monkeypatch)
    with pytest.raises(MachineError, match=r"no kernels for compute capability 6\.1"):
        tw.compile(two_steps(), backend="cuda")
    FakeCupy(capability="75").install(monkeypatch)
    with pytest.raises(ModelError, match="sm_75 has no such products"):
        tw.compile(two_steps(), backend="cuda", precision="tf32")


def test_tiles_are_those_of_the_device(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """By the multiprocessors that the driver counts, whatever other GPUs of the architecture have."""
    x = Input(name="x", shape=(1, 64, 28, 28))
    weight = Constant((rng.standard_normal((64, 64, 3, 3)) / 24).astype(np.float32))
    graph, splits = Graph((x,), (Conv(x, weight, pads=((1, 1), (1, 1))),), ("y",)), []
    for multiprocessors in (132, 8):
        FakeCupy(multiprocessors=multiprocessors).install(monkeypatch)
        session = tw.compile(graph, backend="cuda", passes=[])
        steps = session.executable.steps  # pyright: ignore[reportAttributeAccessIssue]
        splits += [step.kernel.tile.splits for step in steps if isinstance(step.kernel, ImplicitGemmKernel)]
        assert "Fake GPU (sm_90), fp32" in session.plan
    assert splits == [6, 3]


def test_another_gpu_s_array(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    cupy = FakeCupy(devices=2).install(monkeypatch)
    with cupy.cuda.Device(1):
        session, inputs = tw.compile(two_steps(), backend="cuda", passes=[]), given(rng)
    with pytest.raises(ModelError, match="an array is on GPU 0, the model on GPU 1"):
        session.run({**inputs, "x": cupy.array(inputs["x"])})
    assert_same(session.run(inputs), inputs)
    (context,) = session.executable._contexts  # pyright: ignore[reportAttributeAccessIssue]
    assert {memory.pointer.device for memory in context.memories} == {1} == {context.stream.stream.device}


def test_a_plan_keeps_no_weights_here(cupy: FakeCupy) -> None:
    session = tw.compile(lenet5, backend="cuda")
    held = [n for n in session.graph if isinstance(n, Constant) and n.type.nbytes >= 1024 and "data" in vars(n)]
    assert str(session.graph) and not held and not session.executable.plan.constants._contents  # pyright: ignore[reportAttributeAccessIssue]


def test_machine_code_that_cannot_be_written(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that somebody removed is made again; where that cannot be, the machine is at fault."""
    session = tw.compile(two_steps(), backend="cuda", passes=[])
    shutil.rmtree(cupy_device._folder().name)
    assert tw.compile(two_steps(), backend="cuda", passes=[]).plan == session.plan
    monkeypatch.setattr(cupy_device, "_folder", lambda: types.SimpleNamespace(name="/dev/null/folder"))
    with pytest.raises(MachineError, match="cannot write machine code in"):
        tw.compile(two_steps(), backend="cuda", passes=[])


def test_a_session_on_a_gpu_is_not_saved(cupy: FakeCupy, tmp_path: object) -> None:
    with pytest.raises(UnsupportedError, match=r"--backend cuda --arch all -o FILE.zip` keeps its kernels"):
        tw.compile(two_steps(), backend="cuda").save(f"{tmp_path}/model.tw")


def test_errors_of_cuda_are_errors_of_the_machine(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    session = tw.compile(two_steps(), backend="cuda", passes=[])
    from fake_cupy import CUDARuntimeError, Stream

    def fail(_: Stream) -> None:
        raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    monkeypatch.setattr(Stream, "synchronize", fail)
    with pytest.raises(MachineError, match="CUDA failed: cudaErrorIllegalAddress"):
        session.run(given(rng))

    def no_room(nbytes: int) -> None:
        raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")

    monkeypatch.setattr(cupy.cuda, "alloc_pinned_memory", no_room)
    with pytest.raises(MachineError, match=r"the GPU's memory is full, asked for 0\.0 MiB of page-locked memory: cudaErrorMemory"):
        session.run(given(rng))


def test_arrays_that_only_speak_dlpack_here(rng: np.random.Generator) -> None:
    inputs = given(rng)

    class Foreign:
        def __init__(self, array: np.ndarray) -> None:
            self._array = array

        def __dlpack__(self, **options: object) -> object:
            return self._array.__dlpack__(**options)  # type: ignore[arg-type]

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    found = tw.compile(two_steps(), backend="reference").run({"x": Foreign(inputs["x"]), "y": inputs["y"]})
    assert_same(found, inputs)
