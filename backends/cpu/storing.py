"""A compiled graph → what a file holds of it: its code linked into one image, its steps as numbers, its constants in one piece."""

from __future__ import annotations

from ...engine.backend import Stored
from ...engine.errors import UnsupportedError
from ...engine.tensor import TensorType
from ..common.location import CONSTANTS
from . import codegen, image
from .executable import NativeExecutable, Step
from .pool import WALKER
from .stored import instructions
from .target import INSTRUCTION_SETS


def store(executable: NativeExecutable) -> Stored:
    """Raises UnsupportedError where a node falls back to NumPy."""
    if fallbacks := executable.fallbacks():
        raise UnsupportedError("a plan that computes nodes with NumPy cannot be saved:\n" + "\n".join(fallbacks))
    target, frame = executable.machine.target, executable.runner.frame
    kernels = {kernel.symbol: kernel for kernel in [WALKER, *(step.call.kernel for step in executable.steps if step.call)]}
    objects = [codegen.object_code(kernel, target) for kernel in kernels.values()]
    linked = image.link(objects, [name for kernel in kernels.values() for name in codegen.exported(kernel)])
    avoided = INSTRUCTION_SETS[target.name].avoids
    plan = {
        "abi": codegen.ABI_VERSION,
        "needs": sorted(flag for flag in instructions() if not flag.startswith(avoided or ("\0",))),
        "exports": linked.exports,
        "imports": linked.imports,
        "steps": [_step(executable, step) for step in executable.steps],
        "threads": executable.machine.threads,
        "results": [_type(kind) for kind in frame.results],
        "copied": [(i, _type(kind), at.base, _moved(executable, at.base, at.offset)) for i, kind, at in frame.copied],
        "arena": frame.arena_size,
        "scratch": frame.scratch_size,
        "constants": executable.known.nbytes,
        "text": executable.describe(),
    }
    return Stored("cpu.stored", plan, linked.code, executable.known.contents())


def _step(executable: NativeExecutable, step: Step) -> tuple[str, list[int], int, int, str]:
    """Kernel, arguments, units, grain, label."""
    assert step.call is not None
    args = list(step.args)
    for index, place in step.places:
        args[index] += executable.known.moved(place) - place
    return step.call.kernel.symbol, args, step.call.units, step.grain, step.label


def _moved(executable: NativeExecutable, base: int, offset: int) -> int:
    return executable.known.moved(offset) if base == CONSTANTS else offset


def _type(kind: TensorType) -> tuple[str, tuple[int, ...], tuple[int, int] | None]:
    return kind.dtype.str, kind.shape, (kind.layout.axis, kind.layout.block) if kind.layout else None
