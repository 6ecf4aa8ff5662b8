"""A plugin of pytest: the emulated tests of the cuda backend run their kernels on the GPU, three times where they ask for many schedules.

Every launch is brought there and back: its memory, poison included, is copied to the device, each piece between guards of its own,
and what the kernel left is copied back to where the test looks for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tilewright.backends.cuda.device import Launch
from tilewright.backends.cuda.emulator import build, memory
from tilewright.backends.cuda.emulator import launch as emulator
from tilewright.backends.cuda.kernel import Kernel
from tilewright.engine.errors import MachineError

GUARD, CANARY = 256, 0xC5
RUNS = 3
NEEDS_COMPILER = "emulating CUDA kernels needs g++"


class Bridge:
    """Stands where the emulator was."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.stream = device.stream()
        self.launches = 0

    def load(self, kernels: Sequence[Kernel]) -> list[Any]:
        """In place of emulator.build.kernel_libraries. Cases are made for sm_90: a smaller GPU skips those that do not fit."""
        most = self.device.architecture.shared_per_block
        if large := [kernel.name for kernel in kernels if kernel.shared > most]:
            pytest.skip(f"{large[0]} takes more shared memory than the {most} B of {self.device.architecture.name}")
        with self.device.current():
            return self.device.load(kernels)

    def launch(self, loaded: Any, kernel: Kernel, pointers: Sequence[int], schedule: Any = None) -> None:
        """In place of emulator.launch.launch."""
        assert len(pointers) == len(kernel.parameters)
        self.launches += 1
        pieces = list(dict.fromkeys(self._piece(pointer) for pointer in pointers))
        with self.device.current():
            copies = {piece: self._upload(piece) for piece in pieces}
            held = [(piece, p) for p in pointers for piece in [self._piece(p)]]
            there = tuple(copies[piece].address + GUARD + pointer - piece.address for piece, pointer in held)
            self.stream.launch([Launch(loaded, there)])
            self.stream.synchronise()
            for piece, copy in copies.items():
                self._download(piece, copy, kernel)

    def _piece(self, pointer: int) -> memory.GuardedMemory:
        return next(piece for piece in list(memory._pieces) if piece.holds(pointer))

    def _upload(self, piece: memory.GuardedMemory) -> Any:
        content = np.full(piece.nbytes + 2 * GUARD, CANARY, np.uint8)
        content[GUARD : GUARD + piece.nbytes] = piece.bytes
        there = self.device.allocate(content.nbytes, piece.name)
        self.stream.upload(there, 0, content)
        self.stream.synchronise()
        return there

    def _download(self, piece: memory.GuardedMemory, there: Any, kernel: Kernel) -> None:
        content = np.empty(piece.nbytes + 2 * GUARD, np.uint8)
        self.stream.download(content, there, 0)
        self.stream.synchronise()
        around = np.concatenate([content[:GUARD], content[GUARD + piece.nbytes :]])
        if (around != CANARY).any():
            raise emulator.KernelFault(f"{kernel.name}: it wrote just outside {piece.name}")
        piece.bytes[:] = content[GUARD : GUARD + piece.nbytes]


class Watch:
    """After some errors nothing works on the GPU in a process any more: pytest-xdist starts another one, without it nobody goes on."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._failed = set[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what failed."""
        if report.failed:
            self._failed.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Look after a failure, when its report is sent."""
        if nodeid not in self._failed:
            return
        try:
            self._device.stream().synchronise()
        except MachineError as error:
            if "PYTEST_XDIST_WORKER" in os.environ:
                os._exit(1)
            pytest.exit(f"the GPU is lost: {error}", 1)


def install(device: Any, put: Callable[[Any, str, Any], Any] = setattr) -> Bridge:
    """The emulator gives way to a device; modules of tests that are imported afterwards see nothing else."""
    bridge = Bridge(device)
    put(build, "kernel_libraries", bridge.load)
    put(emulator, "launch", bridge.launch)
    put(emulator, "BASIC", emulator.BASIC[:RUNS] + emulator.BASIC[-1:])
    put(emulator, "THOROUGH", emulator.BASIC)
    return bridge


def pytest_configure(config: pytest.Config) -> None:
    """Before any test is imported."""
    if os.environ.get("TILEWRIGHT_GPU_TESTS"):
        from tilewright.backends.cuda.cupy_device import CupyDevice

        config.pluginmanager.register(Watch(install(CupyDevice()).device))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No compiler is needed where nothing is emulated."""
    if os.environ.get("TILEWRIGHT_GPU_TESTS"):
        for node in {node for item in items for node in item.listchain()}:
            node.own_markers[:] = [mark for mark in node.own_markers if mark.kwargs.get("reason") != NEEDS_COMPILER]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A record for every test, as soon as it is over."""
    from gpu_log import Log

    out, step = os.environ.get("TILEWRIGHT_GPU_OUT"), os.environ.get("TILEWRIGHT_GPU_STEP", "cases")
    is_worker = "PYTEST_XDIST_WORKER" in os.environ  # what it says comes to the controller, too
    if out and not is_worker and (report.when == "call" or report.failed) and not report.skipped:
        why = report.longreprtext.splitlines()[-1:] if report.failed else []
        Log(out).add(step, "check", name=report.nodeid, passed=not report.failed, why=" ".join(why)[:300])
