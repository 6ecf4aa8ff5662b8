"""Targets, programs, arenas and the number of threads of the cpu backend."""

from __future__ import annotations

import os
import pathlib
import struct
import sys

import numpy as np
import pytest
from runtime_kernels import AGAIN, NEIGHBOURS, RandomProgram, run_script

from tilewright.backends.cpu import codegen, pool, target
from tilewright.backends.cpu.arena import Arena
from tilewright.backends.cpu.program import Program, ProgramStep
from tilewright.backends.cpu.target import INSTRUCTION_SETS, Target, binding, host, lacking, resolve
from tilewright.engine.errors import CompilerBug, MachineError, ModelError
from tilewright.engine.knobs import knobs

HERE = [name for name in INSTRUCTION_SETS if not lacking(name)]
F32 = np.dtype(np.float32)


# Targets


def test_the_native_target_is_the_widest_that_runs_here() -> None:
    assert resolve() == resolve("native") == Target.native() == resolve(HERE[0])
    with knobs(target=HERE[-1]):
        assert resolve() == Target.describe(HERE[-1])
        assert resolve(HERE[0]).name == HERE[0], "what the user asks for goes before the environment"


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_vector_width_and_key(name: str) -> None:
    target = Target.describe(name)
    assert target.lanes(F32) * 4 == target.lanes(np.dtype(np.float16)) * 2 == target.lanes(np.dtype(bool)) == target.vector_bytes
    assert all(part in target.key for part in (target.triple, target.cpu, target.features, ".".join(map(str, binding().llvm_version_info))))
    assert [t for t in INSTRUCTION_SETS if Target.describe(t).key == target.key] == [name]


def test_a_target_that_cannot_run_here_is_refused() -> None:
    foreign = next(name for name in ("neon", "avx512", "avx2") if lacking(name))
    with pytest.raises(MachineError, match=f"{foreign}.*lacks"):
        resolve(foreign)
    with pytest.raises(MachineError, match="does not run on this machine"):
        codegen.load([AGAIN], Target.describe(foreign))
    with pytest.raises(ModelError, match="expected native, avx512, avx2, neon"):
        resolve("sse9")


def test_a_machine_without_vectors_is_told_what_runs_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "host", lambda: ("x86_64-unknown-linux-gnu", "core2", {"sse2": True}))
    with pytest.raises(MachineError, match=r"expected x86-64 with AVX2.*\(core2\); backend='reference' runs anywhere"):
        Target.native()


WIDE = """
define void @wide(ptr %x, ptr %y) {
  %a = load <16 x float>, ptr %x, align 4
  %b = load <16 x float>, ptr %y, align 4
  %c = fmul <16 x float> %a, %b
  store <16 x float> %c, ptr %y, align 4
  ret void
}"""


@pytest.mark.skipif("x86" not in host()[0], reason="registers of x86-64")
@pytest.mark.parametrize(("name", "register"), [("avx512", "zmm"), ("avx2", "ymm")])
def test_code_uses_the_registers_of_its_target_and_no_others(name: str, register: str) -> None:
    module = binding().parse_assembly(WIDE)
    text = codegen.target_machine(Target.describe(name)).emit_assembly(module)
    assert register in text
    assert name == "avx512" or "zmm" not in text


def test_code_is_emitted_for_other_machines() -> None:
    machines = {name: struct.unpack_from("<H", codegen.compile_ir(WIDE, Target.describe(name)), 18)[0] for name in INSTRUCTION_SETS}
    assert machines == {"avx512": 62, "avx2": 62, "neon": 183}


# Programs


def test_steps_take_their_own_arguments_and_bases(rng: np.random.Generator) -> None:
    first, second = rng.integers(0, 1 << 62, (2, 40), np.uint64)
    wanted = second.copy()
    wanted[3:8] = (3 * np.roll(first[:9], 1) ^ np.roll(first[:9], -1))[:5] + first[7 * np.arange(9) % 9][:5]
    Program([ProgramStep(NEIGHBOURS.address(), (0, 0, 1, 24, 9), 5, 1)], 1).run([first.ctypes.data, second.ctypes.data])
    np.testing.assert_array_equal(second, wanted)


@pytest.mark.parametrize("threads", [1, 2])
def test_time_steps_runs_all_and_times_each(rng: np.random.Generator, threads: int) -> None:
    program = RandomProgram(rng, threads)
    times: list[float] = []
    program.check(rng, lambda p, bases: times.extend(p.time_steps(bases)))
    assert len(times) == len(program.plan) and all(0 <= t < 10 for t in times) and sum(times) > 0


def test_a_long_step_takes_most_of_the_time() -> None:
    values = np.zeros(100_000, np.uint64)
    steps = [ProgramStep(AGAIN.address(), (0, 0, 0, 0, 1), units, 100_000) for units in (10, 100_000, 10)]
    short, long, last = np.median([Program(steps, 1).time_steps([values.ctypes.data]) for _ in range(9)], axis=0)
    assert long > 5 * max(short, last)


def test_a_program_without_steps_does_nothing() -> None:
    program = Program([], 3)
    program.run([])
    assert program.time_steps([]) == [] and len(program) == 0


@pytest.mark.parametrize("step", [ProgramStep(0, (), 1, 1), ProgramStep(8, (), -1, 1), ProgramStep(8, (), 1, 0)])
def test_a_step_that_makes_no_sense_is_a_bug(step: ProgramStep) -> None:
    with pytest.raises(CompilerBug, match="step 0: expected"):
        Program([step], 1)


def test_ranges_and_thread_counts_are_checked() -> None:
    program = Program([ProgramStep(AGAIN.address(), (0, 0, 0, 0, 1), 0, 1)] * 3, 1)
    for first, last in [(-1, 2), (2, 1), (0, 4)]:
        with pytest.raises(CompilerBug, match="first <= last"):
            program.run_range([0], first, last)
    for threads in (0, 5000):
        with pytest.raises(ModelError, match="expected 1 to 1024"):
            Program([], threads)


# Arenas


@pytest.mark.parametrize("nbytes", [0, 1, 100, 5000, (2 << 20) - 1, 2 << 20, (5 << 20) + 3])
def test_arenas_are_aligned_zeroed_and_writable_to_the_last_byte(nbytes: int) -> None:
    arena = Arena(nbytes)
    assert arena.address % (2 << 20 if nbytes >= 2 << 20 else 64) == 0
    everything = arena.view(0, np.dtype(np.uint8), (nbytes,))
    assert not everything.any()
    everything[:] = 7
    assert everything.ctypes.data == arena.address


def test_views_share_the_arena_and_keep_it_alive(rng: np.random.Generator) -> None:
    arena = Arena(3 << 20)
    data = rng.standard_normal((3, 5)).astype(F32)
    arena.view(128, F32, (3, 5))[:] = data
    view = arena.view(128 + 20, F32, (2, 5))
    address = arena.address
    del arena
    others = [Arena(3 << 20) for _ in range(3)]
    assert all(other.address != address for other in others)
    np.testing.assert_array_equal(view, data[1:])
    with pytest.raises(TypeError):
        Arena(100).view(64, F32, (10,))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_arena_is_given_back() -> None:
    def mapped() -> int:
        return int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")

    before = mapped()
    arena = Arena(1 << 30)
    assert mapped() - before >= 1 << 30
    del arena
    assert mapped() - before < 1 << 29


@pytest.mark.parametrize("nbytes", [1 << 47, 1 << 80])
def test_too_large_an_arena_names_its_size(nbytes: int) -> None:
    with pytest.raises(MachineError, match=f"{nbytes >> 20:,}.0 MiB"):
        Arena(nbytes)


# How many threads


def test_the_least_limit_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(pool, "HAS_WORKERS", True)
    monkeypatch.setattr(pool, "cgroup_processors", lambda: 0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TILEWRIGHT_THREADS", raising=False)
    assert pool.default_threads() == 6
    for text, threads in {"4,2": 4, "3": 3, "99": 6, "many": 6, "0": 6}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert pool.default_threads() == threads, text
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with knobs(threads=5):
        assert pool.default_threads() == 5, "our own variable goes before OpenMP's"
        monkeypatch.setattr(pool, "cgroup_processors", lambda: 2)
        assert pool.default_threads() == 2


@pytest.mark.parametrize(
    ("membership", "files", "processors"),
    [
        ("0::/a/b", {"a/b/cpu.max": "250000 100000", "a/cpu.max": "max 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "cpu.max": "400000 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "50000 100000"}, 1),
        ("0::/gone", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {}, 0),
        ("5:cpu,cpuacct:/x\n4:memory:/y", {"cpu,cpuacct/x/cpu.cfs_quota_us": "400000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, 4),
        ("5:cpu,cpuacct:/x", {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 0),
        ("0::/a", {"a/cpu.max": "nonsense"}, 0),
    ],
)
def test_a_containers_share_of_processors(tmp_path: pathlib.Path, membership: str, files: dict[str, str], processors: int) -> None:
    (tmp_path / "membership").write_text(membership + "\n")
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text + "\n")
    assert pool.cgroup_processors(tmp_path / "fs", tmp_path / "membership") == processors
    assert pool.cgroup_processors(tmp_path / "fs", tmp_path / "absent") == 0


def test_a_system_without_workers_says_so_and_runs_on_one_thread() -> None:
    body = """
import sys, warnings
import numpy as np
from tilewright.backends.cpu import pool
pool.HAS_WORKERS = False
from runtime_kernels import AGAIN, NEIGHBOURS, RandomProgram, run_script
assert pool.default_threads() == 1
rng = np.random.default_rng(2)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    programs = [RandomProgram(rng, threads) for threads in (1, 3)]
assert [w.category.__name__ for w in said] == ["MachineWarning"] and "Linux only" in str(said[0].message), said
assert programs[1].program.threads == 1
for program in programs:
    program.check(rng)
print("done")
"""
    assert run_script(body) == "done\n"
