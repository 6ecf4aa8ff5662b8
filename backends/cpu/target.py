"""The machine that code is made for: its instruction set, vector width and registers, as LLVM names them."""

from __future__ import annotations

import dataclasses as dc
import functools
import platform
import sys
from typing import Any

import numpy as np

from ...engine import knobs
from ...engine.errors import MachineError, ModelError


@dc.dataclass(frozen=True)
class InstructionSet:
    """What a kernel may count on: vector bytes, registers, features; and the features LLVM must not use beside them."""

    architecture: str
    vector_bytes: int
    registers: int
    needs: tuple[str, ...]
    avoids: tuple[str, ...]
    generic: str
    """LLVM's name of a processor that has all of it, to emit for when this machine is another one."""


INSTRUCTION_SETS: dict[str, InstructionSet] = {
    "avx512": InstructionSet("x86_64", 64, 32, ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"), (), "x86-64-v4"),
    "avx2": InstructionSet("x86_64", 32, 16, ("avx2", "fma"), ("avx512", "avx10", "amx-"), "x86-64-v3"),
    "neon": InstructionSet("aarch64", 16, 32, ("neon",), ("sve", "sme"), "generic"),
}


@dc.dataclass(frozen=True)
class Target:
    """Vector width and register count are asked of a Target; they are never constants in a kernel."""

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int

    def lanes(self, dtype: np.dtype) -> int:
        """How many elements of this dtype one vector register holds."""
        return self.vector_bytes // np.dtype(dtype).itemsize

    @property
    def key(self) -> str:
        """Everything about the machine that generated code depends on."""
        return f"{self.name} {self.triple} {self.cpu} {self.features} {llvm_version()}"

    @property
    def architecture(self) -> str:
        """The first word of the triple."""
        return self.triple.partition("-")[0]

    @property
    def is_runnable(self) -> bool:
        """Whether code for this target runs on this machine."""
        return lacking(self.name) == ""

    @staticmethod
    def native() -> Target:
        """The widest instruction set of this machine."""
        for name in INSTRUCTION_SETS:
            if not lacking(name):
                return Target.describe(name)
        wanted = "x86-64 with AVX2 and FMA, or aarch64"
        raise MachineError(f"the cpu backend expected {wanted}, got {platform.machine()} ({host()[1]}); backend='reference' runs anywhere")

    @staticmethod
    @functools.cache
    def describe(name: str) -> Target:
        """The target of that name; where this machine lacks it, a generic one that code can be emitted for but not run."""
        if name not in INSTRUCTION_SETS:
            raise ModelError(f"target={name!r}: expected native, {', '.join(INSTRUCTION_SETS)}")
        isa = INSTRUCTION_SETS[name]
        if lacking(name):
            triple, cpu, features = f"{isa.architecture}-unknown-linux-gnu", isa.generic, ",".join(f"+{f}" for f in isa.needs)
        else:
            triple, cpu, available = host()
            allowed = {f: on and not f.startswith(isa.avoids or ("\0",)) for f, on in available.items()}
            features = ",".join(f"{'+' if on else '-'}{f}" for f, on in sorted(allowed.items()))
        return Target(name, triple, cpu, features, isa.vector_bytes, isa.registers)


def resolve(name: str | None = None) -> Target:
    """The target a user asks for, else that of TILEWRIGHT_TARGET, else this machine's. Raises MachineError when it cannot run here."""
    chosen: str = name or knobs.get("target") or "native"
    if chosen == "native":
        return Target.native()
    target = Target.describe(chosen)
    if missing := lacking(chosen):
        raise MachineError(f"target={chosen!r}: this machine ({host()[1]}) lacks {missing}; leave the target out to use what it has")
    return target


def lacking(name: str) -> str:
    """What this machine lacks to run an instruction set; empty: nothing."""
    isa = INSTRUCTION_SETS[name]
    triple, _, available = host()
    if triple.partition("-")[0].replace("arm64", "aarch64") != isa.architecture:
        return f"the architecture {isa.architecture}"
    return ", ".join(f for f in isa.needs if not available.get(f))


@functools.cache
def host() -> tuple[str, str, dict[str, bool]]:
    """(triple, processor, features) of this machine, in LLVM's words."""
    llvm = binding()
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), dict(llvm.get_host_cpu_features())


def llvm_version() -> str:
    """The version of LLVM that generates the code."""
    return "llvm " + ".".join(map(str, binding().llvm_version_info))


def binding_version() -> str:
    """The version of llvmlite."""
    binding()
    return sys.modules["llvmlite"].__version__


@functools.cache
def binding() -> Any:
    """llvmlite's binding layer, imported at the first use and ready to generate code for this machine."""
    try:
        import llvmlite.binding as llvm
    except ImportError as error:
        raise MachineError("the cpu backend needs the package llvmlite, which is not installed: pip install llvmlite") from error
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm
