"""The architectures that kernels are compiled for: what each can do, how much of it there is, and how fast it is."""

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
    """One compute capability (see the CUDA C++ Programming Guide), on one GPU."""

    number: int
    """Major and minor version: 90 is sm_90."""
    shared_per_block: int
    """Most bytes of dynamic shared memory that a block may ask for."""
    threads: int
    """Most resident threads of a multiprocessor."""
    multiply_adds: int
    """In float32 that a multiprocessor does in a cycle."""
    tensor_multiply_adds: int
    """In float16 that its tensor cores do in a cycle where `mma.sync` asks them and sums are float32; half as many in TF32."""
    arrival: float
    """Bytes that come to a multiprocessor from the second-level cache in a cycle when all of them read."""
    multiprocessors: int
    """Of the whole GPU."""

    @property
    def name(self) -> str:
        """How the compiler calls it."""
        return f"sm_{self.number}"

    @property
    def shared(self) -> int:
        """Shared memory of a multiprocessor."""
        return self.shared_per_block + self.reserved

    @property
    def reserved(self) -> int:
        """Shared memory that the system keeps for each resident block."""
        return KIB if self.has_async_copies else 0

    def resident(self, threads: int, registers: int, shared: int) -> int:
        """How many blocks of so many threads, of so many registers each, and bytes of shared memory a multiprocessor has room for."""
        by_shared = self.shared // max(1, shared + self.reserved)
        return min(self.threads // threads, REGISTERS // (threads * registers), by_shared)

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
        Architecture(75, 64 * KIB, 1024, 64, 512, 20, multiprocessors=40),  # T4
        Architecture(80, 163 * KIB, 2048, 64, 1024, 24, multiprocessors=108),  # A100
        Architecture(86, 99 * KIB, 1536, 128, 256, 20, multiprocessors=28),  # GeForce RTX 3060
        Architecture(87, 163 * KIB, 1536, 128, 1024, 20, multiprocessors=16),  # Jetson AGX Orin
        Architecture(89, 99 * KIB, 1536, 128, 256, 14, multiprocessors=128),  # GeForce RTX 4090
        Architecture(90, 227 * KIB, 2048, 128, 1280, 24, multiprocessors=132),  # H100, H200
        Architecture(100, 227 * KIB, 2048, 128, 1024, 24, multiprocessors=148),  # B200
        Architecture(103, 227 * KIB, 2048, 128, 1024, 24, multiprocessors=148),  # B300
        Architecture(110, 227 * KIB, 1536, 128, 1024, 20, multiprocessors=20),  # Jetson AGX Thor
        Architecture(120, 99 * KIB, 1536, 128, 256, 14, multiprocessors=170),  # GeForce RTX 5090
        Architecture(121, 99 * KIB, 1536, 128, 512, 20, multiprocessors=48),  # DGX Spark
    )
}
"""Limits and the rate of float32 are the guide's (tables "Technical Specifications per Compute Capability" and "Throughput of Native
Arithmetic Instructions"). What follows are figures of one GPU, for which kernels are made where no device says how many multiprocessors
it has. Those of tensor cores are the dense peak of its data sheet by clock and multiprocessors, which a GeForce halves for sums in float32;
for 9.0 about the 5/8 of it that `mma.sync` reaches; for 8.7, 10.x, 11.0 and 12.1 about, from memory. Arrivals are all about: from memory of
what microbenchmarks measured on a T4, an A100, an RTX 4090 and an H100, and guesses after these for the others.
"""


def architecture(name: str) -> Architecture:
    """The architecture of this name. Raises ModelError for one that is not in the table."""
    if name not in ARCHITECTURES:
        raise ModelError(f"no architecture {name!r}: expected one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
