"""The architectures that kernels are compiled for: what each can do, and how much of it there is."""

from __future__ import annotations

import dataclasses as dc

from ...engine.errors import ModelError

KIB = 1024
MOST_REGISTERS = 255
"""Of one thread, on every architecture."""
REGISTERS = 65536
"""Of one multiprocessor, on every architecture."""
STATIC_SHARED = 48 * KIB
"""Shared memory of a block beyond this has to be asked for before the launch."""


@dc.dataclass(frozen=True)
class Architecture:
    """One compute capability (CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability")."""

    number: int
    """Major and minor version: 90 is sm_90."""
    shared_per_block: int
    """Most bytes of dynamic shared memory that a block may ask for."""
    threads: int
    """Most resident threads of a multiprocessor."""

    @property
    def name(self) -> str:
        """How the compiler calls it."""
        return f"sm_{self.number}"

    @property
    def shared(self) -> int:
        """Shared memory of a multiprocessor; the system keeps a KiB of it for each resident block where there is cp.async."""
        return self.shared_per_block + (KIB if self.has_async_copies else 0)

    @property
    def has_async_copies(self) -> bool:
        """Whether cp.async copies without registers; elsewhere the prelude loads and stores."""
        return self.number >= 80

    @property
    def has_wide_products(self) -> bool:
        """Whether tensor cores multiply TF32 and bfloat16."""
        return self.number >= 80

    def supports(self, precision: str) -> bool:
        """Whether a kernel in this precision can run: "fp32", "tf32x3", "tf32", "fp16" or "bf16"."""
        return precision in ("fp32", "fp16") or self.has_wide_products

    def registers_for(self, threads: int) -> int:
        """Most registers of each thread that let a block of so many threads start at all; they are handed out by 8."""
        return min(MOST_REGISTERS, REGISTERS // threads // 8 * 8)


ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (
        Architecture(75, 64 * KIB, 1024),
        Architecture(80, 163 * KIB, 2048),
        Architecture(86, 99 * KIB, 1536),
        Architecture(87, 163 * KIB, 1536),
        Architecture(89, 99 * KIB, 1536),
        Architecture(90, 227 * KIB, 2048),
        Architecture(100, 227 * KIB, 2048),
        Architecture(103, 227 * KIB, 2048),
        Architecture(110, 227 * KIB, 1536),
        Architecture(120, 99 * KIB, 1536),
        Architecture(121, 99 * KIB, 1536),
    )
}


def architecture(name: str) -> Architecture:
    """The architecture of this name. Raises ModelError for one that is not in the table."""
    if name not in ARCHITECTURES:
        raise ModelError(f"target={name!r}: expected one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
