"""What a file holds of a compiled graph → an executable; nothing is compiled, and neither LLVM nor the operators are imported."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.errors import MachineError, ModelError
from ...engine.graph import Graph
from ...engine.tensor import Blocked, TensorType
from ..common.location import Location
from .arena import Arena
from .codegen import ABI_VERSION
from .image import Image, load
from .pool import pool
from .program import Program, ProgramStep
from .running import Frame, Run, Runner

INSTRUCTIONS = re.compile("s?sse|pni|avx|amx|fma|xop|tbm|bmi|abm|popcnt|movbe|adx|f16c|gfni|v?aes|v?pclmul|sha|cx16|lahf|cmov")


def instructions(description: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What this machine's processor says about the instructions that generated code may use, in the words of the system."""
    try:
        found = re.search(r"^flags\s*:(.*)$", description.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if not found:
        raise MachineError(f"compiled models are for Linux on x86-64: {description} does not say what this processor can do")
    return frozenset(filter(INSTRUCTIONS.match, found[1].split()))


def stored(plan: Mapping[str, Any], code: bytes, read: Callable[[np.ndarray], None]) -> StoredExecutable:
    """See engine.backend.Stored. Raises MachineError where this processor lacks instructions that the code may contain."""
    if plan["abi"] != ABI_VERSION:
        raise ModelError(f"expected code for version {ABI_VERSION} of the run-time, got {plan['abi']}; compile the model again")
    if lacking := sorted(set(plan["needs"]) - instructions()):
        raise MachineError(f"this model was compiled for another processor: this one lacks {', '.join(lacking)}; compile it here")
    known = Arena(plan["constants"])
    read(known.view(0, np.dtype(np.uint8), (known.nbytes,)))
    addresses = load(Image(code, plan["exports"], plan["imports"]))
    pool(addresses)
    steps = [ProgramStep(addresses[symbol], args, units, grain) for symbol, args, units, grain, _ in plan["steps"]]
    copied = tuple((index, _type(kind), Location(base, offset)) for index, kind, base, offset in plan["copied"])
    frame = Frame(tuple(map(_type, plan["results"])), copied, plan["arena"], plan["scratch"])
    runner = Runner(frame, Program(steps, plan["threads"]), known)
    return StoredExecutable(runner, [label for *_, label in plan["steps"]], plan["text"])


def _type(saved: Any) -> TensorType:
    dtype, shape, layout = saved
    return TensorType(np.dtype(dtype), tuple(shape), Blocked(*layout) if layout else None)


class StoredExecutable:
    """A plan from a file."""

    def __init__(self, runner: Runner, labels: Sequence[str], text: str) -> None:
        self.runner, self.results = runner, runner.frame.results
        self._labels, self._text = labels, text

    @property
    def graph(self) -> Graph:
        """ModelError: a file keeps none."""
        raise ModelError("a plan from a file has no graph")

    def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """See engine.backend.Executable."""
        with Run(self.runner, inputs, out) as run:
            run.steps(0, len(self.runner.program))
            return run.finish()

    def describe(self) -> str:
        """The plan as text, as it was when it was saved."""
        return self._text

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        """See engine.backend.Executable."""
        with Run(self.runner, inputs, None) as run:
            times = [self.runner.program.time_steps(run.bases) for _ in range(repeats + 2)]
        return list(zip(self._labels, np.median(times[2:], axis=0).tolist(), strict=True))
