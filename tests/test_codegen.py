"""Code generation: what kernels are promised, and that a wrong one is a bug that shows itself and never a crash."""

from __future__ import annotations

import pathlib
import threading

import pytest
from runtime_kernels import AGAIN, NEIGHBOURS, TextKernel, again_works, empty_cache

from tilewright.backends.cpu import codegen
from tilewright.backends.cpu.target import INSTRUCTION_SETS, Target
from tilewright.backends.cpu.walker import Walker
from tilewright.engine.errors import CompilerBug


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty cache folder, and no kernel known to this process."""
    return empty_cache(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("  nonsense", "expected a valid LLVM module"),
        ("  call void @absent_from_every_library()", "expected a valid LLVM module"),
        ("  store i64 0, ptr %to\n}\ndefine void @x() {\n  ret void", "expected a valid LLVM module"),
    ],
)
def test_what_is_no_module_is_a_bug_that_shows_it(folder: pathlib.Path, body: str, said: str) -> None:
    kernel = TextKernel(body)
    with pytest.raises(CompilerBug, match=said) as raised:
        kernel.address()
    assert kernel.symbol in str(raised.value) and body.strip() in str(raised.value)


def test_a_name_that_no_library_has_is_a_bug_not_a_crash(folder: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Lost(TextKernel):
        def emit(self, target: Target) -> str:
            return "declare void @absent_from_every_library()\n" + super().emit(target)

    with pytest.raises(CompilerBug, match="expected objects that link"):
        Lost("  call void @absent_from_every_library()").address()
    assert "absent_from_every_library" in capfd.readouterr().err


def test_definitions_of_kernels_that_are_loaded_together_do_not_clash(folder: pathlib.Path) -> None:
    """All test kernels define a function of the same name."""
    found = codegen.load([AGAIN, NEIGHBOURS], Target.native())
    assert len(set(found.values())) == 2
    again_works()


def test_optimizing_is_a_kernels_choice(folder: pathlib.Path) -> None:
    class Optimized(TextKernel):
        optimize = True

    plain = codegen.compile_ir(AGAIN.emit(Target.native()), Target.native(), exports=[AGAIN.symbol])
    kernel = Optimized(AGAIN.body + "\n")
    again_works(kernel)
    best = codegen.compile_ir(kernel.emit(Target.native()), Target.native(), exports=[kernel.symbol], optimize=True)
    assert b"locate" in plain and b"locate" not in best, "the helper is inlined and gone"


def test_threads_may_load_at_once(folder: pathlib.Path) -> None:
    found: list[dict[str, int]] = []
    kernels = [TextKernel(AGAIN.body + "\n" * i) for i in range(6)]
    threads = [threading.Thread(target=lambda: found.append(codegen.load(kernels, Target.native()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(f == found[0] for f in found)


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@pytest.mark.parametrize("workers", [True, False])
def test_the_walker_is_valid_code_for_every_machine(name: str, workers: bool) -> None:
    walker = Walker(workers)
    target = Target.describe(name)
    assert codegen.compile_ir(walker.emit(target), target, exports=codegen.exported(walker))
