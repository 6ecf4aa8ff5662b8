"""The emulator: what it says of each kind of mistake, its memory, its schedules, its cache, and that nothing of it survives a fault."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import pathlib
import re
import shutil
import signal
import threading

import numpy as np
import pytest
from command_line import Command
from cuda_harness import TextKernel, needs_compiler, run_kernel

from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.device import EmulatedDevice, Launch, check_limits
from tilewright.backends.cuda.emulator import build
from tilewright.backends.cuda.emulator.launch import BASIC, THOROUGH, KernelFault, Schedule
from tilewright.backends.cuda.emulator.memory import GuardedMemory
from tilewright.backends.cuda.kernel import Parameter
from tilewright.engine.errors import CompilerBug, MachineError
from tilewright.engine.knobs import knobs

F4, I4, U4 = np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.uint32)
X, Y = Parameter("x", F4), Parameter("y", F4, written=True)
FAULTS = {
    "y[threadIdx.x + 64] = 0;": r"not there in thread \(0, 0, 0\) of block \(0, 0, 0\), \d+ bytes behind y \(forward order",
    "y[threadIdx.x] = x[-1000];": r"\d+ bytes in front of x",
    "if (threadIdx.x == 31) y[31] = 0;": "just outside y",
    "y[0] = *(float*)(char*)16;": "memory that is not there",
    "y[0] = 7 / (int)(x[0] - x[0]);": "division of integers by zero",
    "y[0] = ((const float4*)(x + 1))->x;": "misaligned",
    "float a[4]; a[(int)x[0] + 4] = 1; y[0] = a[0];": "misaligned access or an index out of bounds",
    "if (threadIdx.x < 9) __syncthreads();": r"23 threads have ended while 9 wait at the barrier of line 2",
    "if (threadIdx.x < 9) __syncthreads();\nelse __syncthreads();": r"different barriers, of lines 2 and 3",
    "if (threadIdx.x != 3) y[0] = shuffle_xor(1.f, 1);": r"only 31 of 32 lanes .* line 2",
    "if (threadIdx.x < 4) y[0] = shuffle_xor(1.f, 1);\nelse y[1] = shuffle_xor(2.f, 1);": r"different lines, 2 and 3",
    "if (threadIdx.x < 4) y[0] = shuffle_xor(1.f, 1);\nelse __syncthreads();": "only 4 of 32 lanes",
    "while (load_shared_by_blocks(x) == 0) ;": "no progress",
    "float a[60000];\nfor (int i = 0; i < 60000; i += 16) a[i] = x[i % 7];\ny[0] = a[(int)x[0] * 16];": "more than 131072 bytes of local",
    "cp_async16(y, x, true);": "outside the block's 0 bytes of shared memory",
    "cp_async16(y, x + 1, true);": "not aligned, line 2",
}


@needs_compiler
@pytest.mark.parametrize("text", FAULTS)
def test_faults_say_what_happened(text: str) -> None:
    kernel = TextKernel((X, Y), text)
    with pytest.raises(KernelFault, match=FAULTS[text]) as caught:
        run_kernel(kernel, {"x": np.zeros(31, F4), "y": np.zeros(31 if "y[31]" in text else 32, F4)})
    assert isinstance(caught.value, CompilerBug) and kernel.name in str(caught.value)


@needs_compiler
def test_life_goes_on_after_a_fault() -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGBUS)]
    for _ in range(50):
        with pytest.raises(KernelFault):
            run_kernel(TextKernel((X, Y), "y[40] = 0;"), {"x": np.zeros(32, F4), "y": np.zeros(32, F4)})
    found = run_kernel(
        TextKernel((X, Y), "y[threadIdx.x] = x[31 - threadIdx.x];"), {"x": np.arange(32.0).astype(F4), "y": np.zeros(32, F4)}
    )
    np.testing.assert_array_equal(found["y"], np.arange(32.0)[::-1])
    assert handlers == [signal.getsignal(s) for s in (signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGBUS)]


@needs_compiler
def test_shared_memory_is_poisoned_for_every_block() -> None:
    text = """
      SHARED_MEMORY(memory);
      float* tile = (float*)memory;
      y[blockIdx.x * 64 + threadIdx.x] = tile[threadIdx.x];
      tile[threadIdx.x] = 1;"""
    kernel = TextKernel((X, Y), text, threads_of_block=64, blocks=5, bytes_shared=256)
    for schedule in BASIC:
        assert np.isnan(run_kernel(kernel, {"x": np.zeros(1, F4), "y": np.zeros(320, F4)}, schedule)["y"]).all()


@needs_compiler
def test_every_thread_runs_once_in_every_schedule() -> None:
    text = "atomicAdd(y + blockIdx.x * 100 + threadIdx.x, 1u); __syncthreads(); atomicAdd(y + blockIdx.x * 100 + 99 - threadIdx.x, 1u);"
    kernel = TextKernel((Parameter("y", U4, written=True),), text, threads_of_block=100, blocks=7)
    for schedule in THOROUGH:
        assert (run_kernel(kernel, {"y": np.zeros(700, U4)}, schedule)["y"] == 2).all()


@needs_compiler
def test_schedules_differ_and_repeat() -> None:
    text = "y[atomicAdd(y, 1u) + 1u] = blockIdx.x * 32 + threadIdx.x;"
    kernel = TextKernel((Parameter("y", U4, written=True),), text, blocks=6)
    orders = {}
    for schedule in THOROUGH:
        found = [run_kernel(kernel, {"y": np.zeros(193, U4)}, schedule)["y"][1:] for _ in range(2)]
        assert (found[0] == found[1]).all() and (np.sort(found[0]) == np.arange(192)).all()
        orders[str(schedule)] = found[0].tobytes()
    assert (np.frombuffer(orders[str(BASIC[0])], U4) == np.arange(192)).all()
    assert (np.frombuffer(orders[str(Schedule("reverse", seed=1))], U4) == np.arange(192)[::-1]).all()
    assert len(set(orders.values())) > 20


@needs_compiler
def test_lazy_copies_arrive_when_they_are_waited_for() -> None:
    text = """
      SHARED_MEMORY(memory);
      uint32* tile = (uint32*)memory;
      tile[threadIdx.x] = 7;
      cp_async4(tile + threadIdx.x, x + threadIdx.x, threadIdx.x < 20);
      cp_async_commit();
      y[threadIdx.x] = tile[threadIdx.x];
      cp_async_wait<0>();
      y[32 + threadIdx.x] = tile[threadIdx.x];"""
    kernel = TextKernel((Parameter("x", U4), Parameter("y", U4, written=True)), text, bytes_shared=128)
    given = {"x": np.arange(100, 132, dtype=U4), "y": np.zeros(64, U4)}
    arrived = np.where(np.arange(32) < 20, given["x"], 0)
    eager, lazy = (run_kernel(kernel, given, Schedule(lazy=lazy))["y"].reshape(2, 32) for lazy in (False, True))
    np.testing.assert_array_equal(eager, [arrived, arrived])
    np.testing.assert_array_equal(lazy, [np.full(32, 7), arrived])


@needs_compiler
def test_grids_and_blocks_of_three_dimensions() -> None:
    class Box(TextKernel):
        @property
        def grid(self) -> tuple[int, int, int]:
            return 2, 3, 4

        @property
        def block(self) -> tuple[int, int, int]:
            return 4, 2, 3

    text = """
      int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
      int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
      y[block * 24 + thread] = block * 100 + thread;"""
    found = run_kernel(Box((Parameter("y", I4, written=True),), text), {"y": np.zeros((24, 24), I4)})["y"]
    np.testing.assert_array_equal(found, np.arange(24)[:, None] * 100 + np.arange(24))


@needs_compiler
def test_callers_on_several_threads() -> None:
    kernels = [TextKernel((X, Y), f"__syncthreads(); y[threadIdx.x] = x[threadIdx.x] * {n};") for n in range(2)]
    wrong = []

    def work(n: int) -> None:
        for _ in range(30):
            found = run_kernel(kernels[n], {"x": np.ones(32, F4), "y": np.zeros(32, F4)}, Schedule("random", seed=n))
            wrong.extend(found["y"] != n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 60 * 32 and not any(wrong)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MachineError, match=r"needs the compiler g\+\+, which is not on PATH"):
        build.compiler.__wrapped__()


def pretended(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """From here on g++ is this, in the shell's words."""
    (folder / "g++").write_text(script)
    (folder / "g++").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(build, "compiler", functools.cache(build.compiler.__wrapped__))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\necho broken >&2; exit 1\n", r"g\+\+ --version` failed: broken"),
        ("#!/bin/sh\nexit 7\n", "failed: exit code 7"),
        ("#!/bin/sh\nkill -9 $$\n", "killed by signal 9"),
        ("#!/no/such/shell\n", "cannot make or load a library .*: No such file"),
        ("\0no program", "Exec format error"),
    ],
)
def test_a_compiler_that_does_not_run(
    script: str, said: str, cli: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended(tmp_path, monkeypatch, script)
    with pytest.raises(MachineError, match=said):
        build.compiler()
    ending = cli("list", "backends")
    assert ending.code == 0 and re.search(rf"^cuda_emulated +not here: .*{said}", ending.out, re.MULTILINE)
    assert cli("run", "lenet5", "--random", "--backend", "cuda-emulated").code == 2


@pytest.mark.parametrize(
    "said",
    [
        "/usr/bin/ld: final link failed: No space left on device",
        "g++: fatal error: Killed signal terminated program cc1plus",
        "g++: fatal error: cannot execute 'cc1plus': execvp: No such file or directory",
        "cc1plus: out of memory allocating 65536 bytes after a total of 1 bytes",
    ],
)
def test_a_machine_that_is_at_fault(said: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the compiler says then is no bug of ours, and whoever reads it is told where the space is missing."""
    pretended(tmp_path, monkeypatch, f'#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "{said}" >&2; exit 1\n')
    with knobs(cache_dir="off"), pytest.raises(MachineError, match=re.escape(said)) as caught:
        build.kernel_libraries([TextKernel((Y,), "y[0] = 4;")])
    assert ("see TMPDIR" in str(caught.value)) == ("space" in said)


def test_no_room_for_a_library(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pretended(tmp_path, monkeypatch, "#!/bin/sh\nexit 0\n")
    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with knobs(cache_dir="off"), pytest.raises(MachineError, match=r"TMPDIR\): No space left on device"):
        build.kernel_libraries([TextKernel((Y,), "y[0] = 5;")])


@needs_compiler
def test_functions_that_are_not_there_are_our_bug() -> None:
    """What a GPU does not have, the emulator does not have from the library of C++ either."""
    with pytest.raises(CompilerBug, match=r"(?s)does not compile as C\+\+.*undefined reference"):
        build.kernel_libraries([TextKernel((Y,), "y[0] = *new float[threadIdx.x];")])


def test_text_that_does_not_compile_is_our_bug() -> None:
    with pytest.raises(CompilerBug, match=r"(?s)nonsense.*not declared"):
        run_kernel(TextKernel((X, Y), "y[0] = nonsense;"), {"x": np.zeros(1, F4), "y": np.zeros(1, F4)})


@needs_compiler
def test_a_library_is_compiled_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = TextKernel((Y,), "y[0] = 12321;")
    with knobs(cache_dir=str(tmp_path)):
        run_kernel(kernel, {"y": np.zeros(1, F4)})
        (file,) = tmp_path.glob("*.o")
        monkeypatch.setattr(build, "_loaded", {})
        with monkeypatch.context() as patched:
            patched.setattr(build, "_compile", None)
            patched.setattr(build, "machine_library", build.machine_library)
            build.kernel_libraries([kernel])
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        monkeypatch.setattr(build, "_loaded", {})
        build.kernel_libraries([kernel])


def test_memory() -> None:
    memory = GuardedMemory(37, "it")
    assert memory.bytes.size == 37 and (memory.bytes == 0xFF).all() and memory.address % 16 == 0 and memory.is_intact()
    assert memory.where(memory.address + 40) == "3 bytes behind it" and memory.where(memory.address - 1) == "1 bytes in front of it"
    (ctypes.c_uint8 * 48).from_address(memory.address)[38] = 0
    assert not memory.is_intact()
    assert GuardedMemory(0, "nothing").is_intact()


def test_what_no_launch_can_start() -> None:
    for kernel in (TextKernel((), "", 2048), TextKernel((), "", blocks=0), TextKernel((), "", bytes_shared=100 * 1024)):
        with pytest.raises(CompilerBug, match=kernel.name):
            check_limits(kernel, ARCHITECTURES["sm_86"])
    check_limits(TextKernel((), "", bytes_shared=100 * 1024), ARCHITECTURES["sm_90"])


@needs_compiler
def test_the_device_runs_captured_launches_again() -> None:
    device = EmulatedDevice()
    (loaded,) = device.load([TextKernel((Parameter("y", U4, written=True),), "y[threadIdx.x] += threadIdx.x;")])
    memory, stream = device.allocate(128, "y"), device.stream()
    stream.zero(memory, 0, 128)
    replay = stream.capture([Launch(loaded, (memory.address,))] * 2)
    result = np.empty(32, U4)
    for times in (2, 4):
        replay()
        stream.download(result, memory, 0)
        stream.synchronise()
        np.testing.assert_array_equal(result, times * np.arange(32))
