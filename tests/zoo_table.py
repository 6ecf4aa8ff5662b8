"""What is known about every model of the zoo: its size by the paper or the reference implementation, and at which shapes CI runs it."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping

TORCHVISION = "torchvision 0.28: sum of numel over parameters(), FlopCounterMode / 2"


@dc.dataclass(frozen=True)
class Row:
    """A model of the zoo."""

    model: str
    parameters: int
    multiply_adds: float
    """At the model's typical input shapes."""
    source: str
    """Where the two figures come from."""
    shapes: Mapping[str, tuple[int, ...]]
    """Input shapes at which CI compares numbers: small, but no layer loses its meaning."""
    below: Mapping[str, int] = dc.field(default_factory=dict)
    """For inputs that are indices: every number is below this one."""
    ci: bool = True
    """False: numbers are compared in the sweep only, because CI has a smaller network of this family."""


CLASSICS = [
    Row("lenet5", 61_706, 416_520, "by hand: 61,706 = 156 + 2,416 + 48,120 + 10,164 + 850", {"image": (3, 1, 28, 28)}),
]

RESIDUAL = [
    Row("resnet18", 11_689_512, 1.814e9, TORCHVISION, {"image": (2, 3, 64, 64)}),
    Row("resnet34", 21_797_672, 3.664e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("resnet50", 25_557_032, 4.089e9, TORCHVISION, {"image": (1, 3, 64, 64)}),
    Row("resnet101", 44_549_160, 7.801e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("resnet152", 60_192_808, 11.514e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
]

INCEPTION: list[Row] = []

MOBILE: list[Row] = []

PIXELS: list[Row] = []

OTHER_AXES: list[Row] = []

ROWS = {row.model: row for group in (CLASSICS, RESIDUAL, INCEPTION, MOBILE, PIXELS, OTHER_AXES) for row in group}
