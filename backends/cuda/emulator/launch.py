"""Launching an emulated kernel: in which order its threads run, and its mistakes as errors."""

from __future__ import annotations

import ctypes
import dataclasses as dc
import threading
from collections.abc import Sequence

from ....engine.errors import CompilerBug
from ..kernel import Kernel
from .build import machine_library
from .memory import damaged, describe_address

ORDERS = ("forward", "reverse", "random", "priority")
_alone = threading.Lock()
"""The machine has one state, and signals belong to the process."""


class KernelFault(CompilerBug):
    """A kernel did what a GPU would punish, or what it would not notice."""


@dc.dataclass(frozen=True)
class Schedule:
    """In which order blocks, warps and lanes run, and when asynchronous copies are carried out.

    "forward" and "reverse" run one block after the other. "random" keeps several blocks resident and picks a warp anew each time;
    "priority" gives every warp a random priority, so that some wait as long as they can, and a new one whenever it touches what blocks
    share. Lazy copies are carried out when they are waited for, the others at once: each finds mistakes that the other cannot.
    """

    order: str = "forward"
    lazy: bool = False
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.order} order, {'lazy' if self.lazy else 'eager'} copies, seed {self.seed}"


BASIC = tuple(Schedule(order, lazy, 1) for order in ORDERS for lazy in (False, True))
"""What every kernel is tested with."""
THOROUGH = (*BASIC, *(Schedule(order, seed % 2 == 0, seed) for order in ("random", "priority") for seed in range(2, 14)))
"""What finds races that need luck."""


def launch(library: ctypes.CDLL, kernel: Kernel, pointers: Sequence[int], schedule: Schedule = BASIC[0]) -> None:
    """Run a kernel whose library is given. Raises KernelFault with the thread and what it did."""
    assert len(pointers) == len(kernel.parameters), f"{kernel.name} takes {len(kernel.parameters)} pointers, given {len(pointers)}"
    given = (ctypes.c_void_p * len(pointers))(*pointers)
    text, fault = ctypes.create_string_buffer(500), ctypes.c_size_t()
    grid, block = ((ctypes.c_uint * 3)(*extent) for extent in (kernel.grid, kernel.block))
    order = ORDERS.index(schedule.order)
    with _alone:
        failed = machine_library().emulator_launch(
            library.emulated_kernel, library.emulated_machine, given, grid, block, ctypes.c_size_t(kernel.shared),
            order, schedule.seed, int(schedule.lazy), text, ctypes.c_size_t(len(text)), ctypes.byref(fault),
        )  # fmt: skip
    if not failed and (harmed := damaged(pointers)):
        raise KernelFault(f"{kernel.name}: it wrote just outside {harmed} ({schedule})")
    if failed:
        where = describe_address(fault.value) if fault.value else ""
        raise KernelFault(f"{kernel.name}: {text.value.decode(errors='replace')}{where} ({schedule})")
