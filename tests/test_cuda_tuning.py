"""compile(tune=True) on the emulated GPU, its kernels costing what a pretended clock says: what is measured, kept and used again."""

from __future__ import annotations

import dataclasses as dc
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from cuda_harness import TextKernel, load_kernels, needs_compiler

import tilewright as tw
from tilewright.backends.common.choices import RULE, Kept
from tilewright.backends.cuda import tuning
from tilewright.backends.cuda.conv_implicit_gemm import ImplicitGemmKernel
from tilewright.backends.cuda.device import EmulatedDevice, Launch
from tilewright.backends.cuda.executable import CudaExecutable
from tilewright.backends.cuda.kernel import Kernel, Machine
from tilewright.backends.cuda.layout import assign_layouts
from tilewright.backends.cuda.schedule import Tile
from tilewright.engine.errors import CompilerBug
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import Conv

pytestmark = needs_compiler


@dc.dataclass
class PretendedDevice(EmulatedDevice):
    """Kernels cost what `seconds` says and are neither compiled nor run."""

    seconds: Callable[[Kernel], float]
    now: float = 0.0
    timed: list[Kernel] = dc.field(default_factory=list)
    prepared: list[Kernel] = dc.field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def clock(self) -> float:
        return self.now

    def load(self, kernels: Sequence[Kernel]) -> list[Any]:
        return list(kernels)

    def prepare(self, kernels: Sequence[Kernel]) -> None:
        self.prepared += kernels

    def stream(self) -> Any:
        return PretendedStream(self)


class PretendedStream:
    def __init__(self, device: PretendedDevice) -> None:
        self.device = device

    def upload(self, to: object, offset: int, array: np.ndarray) -> None: ...

    def zero(self, memory: object, offset: int, nbytes: int) -> None: ...

    def synchronise(self) -> None: ...

    def download(self, array: np.ndarray, memory: object, offset: int) -> None:
        raise AssertionError("nobody reads what is timed")

    def launch(self, launches: Sequence[Launch]) -> None:
        for kernel, _ in launches:
            self.device.timed.append(kernel)
            self.device.now += self.device.seconds(kernel)

    def capture(self, launches: Sequence[Launch]) -> Callable[[], None]:
        captured = tuple(launches)
        return lambda: self.launch(captured)


@pytest.fixture(autouse=True)
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty cache folder."""
    load_kernels()
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def network(batch: int = 1) -> Graph:
    """Two equal convolutions and another one."""
    rng = np.random.default_rng(3)
    weight = Constant((rng.standard_normal((64, 64, 3, 3)) / 24).astype(np.float32))
    x = Input(name="x", shape=(batch, 64, 14, 14))
    around = (1, 1), (1, 1)
    a = Conv(Conv(x, weight, pads=around), weight, pads=around)
    last = Conv(a, Constant((rng.standard_normal((33, 64, 1, 1)) / 8).astype(np.float32)))
    return Graph((x,), (last,), ("y",))


def tile_of(kernel: Kernel) -> Tile | None:
    return kernel.tile if isinstance(kernel, ImplicitGemmKernel) else None


def prefers(tile: tuple[int, int], saved: float) -> Callable[[Kernel], float]:
    """Tiles of this size take less time than all the others, which take a millisecond."""

    def seconds(kernel: Kernel) -> float:
        chosen = tile_of(kernel)
        return 1e-3 * (1 - saved) if chosen and (chosen.rows, chosen.columns) == tile else 1e-3

    return seconds


def tiles(graph: Graph, device: PretendedDevice, seconds: float = 1e6) -> list[Tile]:
    machine = Machine(device.architecture)
    found = tuning.tuned(assign_layouts(graph), machine, device, seconds, device.clock)
    return [tile for step in found.steps if (tile := tile_of(step.kernel))]


def by_rule(graph: Graph) -> list[Tile]:
    device = PretendedDevice(prefers((0, 0), 0))
    steps = CudaExecutable(assign_layouts(graph), Machine(device.architecture), device).steps
    return [tile for step in steps if (tile := tile_of(step.kernel))]


def another(graph: Graph) -> tuple[int, int]:
    """The size of a candidate's tile that the rule gives to nobody."""
    device = PretendedDevice(prefers((0, 0), 0))
    asked = Kept({})
    CudaExecutable(assign_layouts(graph), Machine(device.architecture, schedules=asked), device)
    sizes = [{(t.rows, t.columns) for t in question.candidates} for question in asked.open.values()]
    return min(set.intersection(*sizes) - {(t.rows, t.columns) for t in by_rule(graph)})


def test_what_is_clearly_faster_is_kept_and_used_again() -> None:
    graph = network()
    wanted = another(graph)
    device = PretendedDevice(prefers(wanted, 0.2))
    found = tiles(graph, device)
    assert len(found) == 3 and {(t.rows, t.columns) for t in found} == {wanted}
    again = PretendedDevice(prefers(wanted, 0.2))
    assert tiles(graph, again) == found and not again.timed


@pytest.mark.parametrize("saved", [0.0, 0.02, -0.3])
def test_nothing_slower_or_hardly_faster_is_kept(saved: float) -> None:
    graph = network()
    device = PretendedDevice(prefers(another(graph), saved))
    assert tiles(graph, device) == by_rule(graph) and device.timed


def test_equal_nodes_are_measured_once() -> None:
    graph = assign_layouts(network())
    machine = Machine(EmulatedDevice().architecture)
    assert [count for _, count in tuning.asking_nodes(graph, machine, {})] == [2, 1]


def test_each_batch_is_a_problem_of_its_own() -> None:
    device = PretendedDevice(prefers(another(network()), 0.2))
    tiles(network(), device)
    measured = len(device.timed)
    tiles(network(8), device)
    assert len(device.timed) > measured


def test_the_time_is_kept() -> None:
    device = PretendedDevice(prefers(another(network()), 0.2))
    tiles(network(), device, 0.05)
    assert device.now < 0.1


def test_what_is_measured_was_compiled_before() -> None:
    device = PretendedDevice(prefers(another(network()), 0.2))
    tiles(network(), device)
    assert device.timed and set(device.timed) <= set(device.prepared)


def test_compiling_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at a time, each once, as long as there is time; one that does not compile keeps no other from it."""
    device, asked = PretendedDevice(prefers((0, 0), 0)), list[int]()
    kernels = [TextKernel((), f"// {i}") for i in range(2 * tuning.AT_ONCE + 5)]
    tuning.prepare(device, iter([*kernels[:1], *kernels]), lambda: True)
    assert device.prepared == kernels

    def refuse(kernels: Sequence[Kernel]) -> None:
        asked.append(len(kernels))
        raise CompilerBug("it does not compile")

    monkeypatch.setattr(device, "prepare", refuse)
    tuning.prepare(device, iter(kernels), lambda: len(asked) < 2)
    assert asked == [tuning.AT_ONCE] * 2


def test_devices_do_not_share_answers() -> None:
    graph = network()
    wanted = another(graph)
    tiles(graph, PretendedDevice(prefers(wanted, 0.2)))
    other = PretendedDevice(prefers((0, 0), 0))
    other.name = "another GPU"
    assert tiles(graph, other) == by_rule(graph)


def test_the_table_that_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers without `tune`, for the device that it names; what it does not know is open."""
    graph = network()
    wanted = another(graph)
    device = PretendedDevice(prefers(wanted, 0.2))
    tiles(graph, device)
    answers = tuning.store_for(device).read()
    assert tuning.shipped() == json.loads(tuning.TABLE.read_text()) and tuning.shipped_schedules(device) is RULE
    monkeypatch.setattr(tuning, "shipped", lambda: {device.name: answers})
    machine = Machine(device.architecture, schedules=tuning.shipped_schedules(device))
    steps = CudaExecutable(assign_layouts(graph), machine, device).steps
    assert {(t.rows, t.columns) for step in steps if (t := tile_of(step.kernel))} == {wanted}


def test_from_the_front_door(rng: np.random.Generator) -> None:
    """In the emulator itself: with almost no time, and results as they are without."""
    graph = network()
    x = rng.standard_normal((1, 64, 14, 14)).astype(np.float32)
    tuned, plain = (tw.compile(graph, backend="cuda_emulated", tune=tune) for tune in (1e-9, False))
    np.testing.assert_allclose(tuned(x), plain(x), rtol=1e-4, atol=1e-4)
