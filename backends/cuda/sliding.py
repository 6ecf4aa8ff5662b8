"""Windows that slide over the spatial axes of x: what the convolution kernels whose threads compute a run of outputs have in common."""

from __future__ import annotations

import dataclasses as dc
import math

from ...engine.ops import Conv
from ...engine.tensor import TensorType
from .elements import lines, strides_of, weighted


@dc.dataclass(frozen=True)
class Window:
    """Output o of each spatial axis meets x at o*stride - before + tap*dilation. The last axis is the one that runs are along."""

    x: TensorType
    out: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    before: tuple[int, ...]
    dilations: tuple[int, ...]

    @staticmethod
    def of(node: Conv) -> Window:
        """That of a convolution."""
        before = tuple(first for first, _ in node.pads)
        return Window(node.x.type, node.type.shape[2:], node.kernel, node.strides, before, node.dilations)

    @property
    def taps(self) -> int:
        """Of the whole window."""
        return math.prod(self.kernel)

    @property
    def rows(self) -> int:
        """Runs across the last axis: images times outputs of the other spatial axes."""
        return self.x.shape[0] * math.prod(self.out[:-1])

    @property
    def step(self) -> int:
        """Stride of the last axis."""
        return self.strides[-1]

    def span(self, pixels: int, taps: int) -> int:
        """Positions of the last axis that so many outputs meet with so many of its taps."""
        return (pixels - 1) * self.step + (taps - 1) * self.dilations[-1] + 1

    def coordinates(self) -> list[str]:
        """The names of the outputs' coordinates along the spatial axes; along the last one it is that of the run's first."""
        return [f"o{axis}" for axis in range(len(self.out))]

    def each_row(self, body: str, unroll: bool = False) -> str:
        """The body for every tap of the other spatial axes that meets x; `row` counts those taps, and `from` is moved along."""
        strides = strides_of(self.x)[2:]
        loops, moved, count = list[str](), list[str](), "0"
        for axis, taps in enumerate(self.kernel[:-1]):
            loops.append(f"{'UNROLL ' if unroll else ''}for (int r{axis} = 0; r{axis} < {taps}; r{axis}++) {{")
            loops.append(f"const int p{axis} = o{axis} * {self.strides[axis]} - {self.before[axis]} + r{axis} * {self.dilations[axis]};")
            loops.append(f"if (p{axis} < 0 || p{axis} >= {self.x.shape[2 + axis]}) continue;")
            moved.append(f"p{axis}")
            count = f"r{axis}" if axis == 0 else f"({count} * {taps} + r{axis})"
        inner = f"const int row = {count};", f"const auto* const line = from + ({weighted(moved, strides[:-1])});"
        return lines(*loops, "{", *inner, body, "}", "}" * len(self.kernel[:-1]), spaces=0)

    def column(self, i: str, first: str = "") -> str:
        """Statements: `p` is the position along the last axis that lies `i` behind the first one that the run meets."""
        moved = f" + {first}" if first else ""
        return f"const int p = o{len(self.out) - 1} * {self.step} - {self.before[-1]}{moved} + {i};"

    @property
    def is_inside(self) -> str:
        """Whether `p` is in x."""
        return f"p >= 0 && p < {self.x.shape[-1]}"

    @property
    def column_stride(self) -> int:
        """Elements from one position of the last axis to the next."""
        return strides_of(self.x)[-1]
