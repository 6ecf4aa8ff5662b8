"""Where the taps of a convolution read along one spatial axis, for all phases at once, as numbers and as text.

Outputs phase, phase + spacing, ... of a transposed convolution are a convolution with every so-manieth tap of the kernel (see
backends/common/geometry.py). Which taps those are follows from the phase by a formula, so that one kernel computes them all; how many
they are takes at most three values, for each of which there is text of its own.
"""

from __future__ import annotations

import dataclasses as dc
import math

from ...engine.ops import Conv, ConvTranspose


@dc.dataclass(frozen=True)
class PhasedAxis:
    """Output phase + q*spacing reads input q*step + offset(phase) + m*offset_step by the tap first(phase) + m*tap_step, m = 0, 1, ..."""

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    before: int
    is_transposed: bool

    @property
    def spacing(self) -> int:
        """Outputs from one of a phase to the next."""
        return self.stride if self.is_transposed else 1

    @property
    def step(self) -> int:
        """Inputs between them."""
        return 1 if self.is_transposed else self.stride

    @property
    def phases(self) -> int:
        """How many there are."""
        return min(self.spacing, self.out)

    @property
    def count(self) -> int:
        """Outputs of the first phase, which has the most."""
        return -(-self.out // self.spacing)

    @property
    def _common(self) -> int:
        return math.gcd(self.spacing, self.dilation)

    @property
    def tap_step(self) -> int:
        """From one tap of a phase to the next."""
        return self.spacing // self._common

    @property
    def offset_step(self) -> int:
        """How much further they read."""
        return -(self.dilation // self._common) if self.is_transposed else self.dilation

    def taps(self, phase: int) -> int:
        """How many a phase has."""
        reach = phase + self.before
        if self.is_transposed and reach % self._common:
            return 0
        first = reach // self._common * self._inverse % self.tap_step
        return max(0, -(-(self.kernel - first) // self.tap_step))

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of taps that occur."""
        return tuple(sorted({self.taps(phase) for phase in range(self.phases)}))

    @property
    def _inverse(self) -> int:
        """(dilation / common) * inverse = 1 modulo tap_step."""
        return pow(self.dilation // self._common, -1, self.tap_step)

    def first_text(self, phase: str) -> str:
        """The first tap of a phase, as text."""
        if self.phases == 1 and not self.is_transposed:
            return "0"
        turns = max(0, -(-max(0, -self.before) // self.spacing)) * self.spacing
        return f"({phase} + {self.before + turns}) / {self._common} * {self._inverse} % {self.tap_step}"

    def offset_text(self, phase: str, first: str) -> str:
        """Where it reads for the first output."""
        return f"({phase} + {self.before} - {first} * {self.dilation}) / {self.stride}" if self.is_transposed else str(-self.before)

    def is_count_text(self, phase: str, first: str, count: int) -> str:
        """Whether a phase has so many taps."""
        found = f"({first} < {self.kernel} ? ({self.kernel - 1} - {first}) / {self.tap_step} + 1 : 0)"
        if self._common > 1:
            found = f"(({phase} + {self.before}) % {self._common} ? 0 : {found})"
        return f"{found} == {count}"


def phased_axes(node: Conv | ConvTranspose) -> tuple[PhasedAxis, ...]:
    """One for each spatial axis."""
    sizes = zip(node.x.type.shape[2:], node.type.shape[2:], node.kernel, node.strides, node.dilations, node.pads, strict=True)
    return tuple(
        PhasedAxis(size, out, kernel, stride, dilation, before, isinstance(node, ConvTranspose))
        for size, out, kernel, stride, dilation, (before, _) in sizes
    )
