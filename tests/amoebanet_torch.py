"""AmoebaNet on PyTorch's functions and our arrays, after its published description (TensorFlow's padding, cells from data)."""

from __future__ import annotations

import dataclasses as dc
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tilewright.models.amoebanet import Cell

EPSILON = 1e-3


@dc.dataclass(frozen=True)
class Network:
    """The layers of one scope."""

    torch: Any
    """The package."""
    weights: Mapping[str, Any]
    scope: str = ""

    def within(self, name: str) -> Network:
        return dc.replace(self, scope=f"{self.scope}{name}.")

    def padded(self, x: Any, kernel: Sequence[int], stride: Sequence[int], value: float = 0.0) -> Any:
        """As many zeros as ceil(extent / stride) windows need, the odd one at the end."""
        missing = [max((math.ceil(n / s) - 1) * s + k - n, 0) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in reversed(missing)]
        return self.torch.nn.functional.pad(x, [*itertools.chain(*pairs)], value=value)

    def conv(self, x: Any, name: str, stride: Sequence[int] = (1, 1)) -> Any:
        weight = self.weights[f"{self.scope}{name}.weight"]
        x = self.padded(x, weight.shape[2:], stride)
        return self.torch.nn.functional.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])

    def norm(self, x: Any, name: str) -> Any:
        array = {key: self.weights[f"{self.scope}{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        return self.torch.nn.functional.batch_norm(x, **array, eps=EPSILON)

    def projected(self, x: Any, stride: int = 1) -> Any:
        return self.norm(self.conv(x, "conv", (stride, stride)), "bn")

    def pooled(self, x: Any, operation: str, stride: int) -> Any:
        functions, how = self.torch.nn.functional, {"kernel_size": 3, "stride": stride}
        window = (3, 3), (stride, stride)
        if operation.startswith("max"):
            return functions.max_pool2d(self.padded(x, *window, -math.inf), **how)
        inside = functions.avg_pool2d(self.padded(self.torch.ones_like(x), *window), **how)
        return functions.avg_pool2d(self.padded(x, *window), **how) / inside

    def separable(self, x: Any, stride: int) -> Any:
        for step, distance in enumerate((stride, 1), start=1):
            x = self.conv(x.relu(), f"depthwise{step}", (distance, distance))
            x = self.norm(self.conv(x, f"pointwise{step}"), f"bn{step}")
        return x

    def rectangular(self, x: Any, stride: int) -> Any:
        for step, distances in enumerate(((1, 1), (1, stride), (stride, 1), (1, 1)), start=1):
            x = self.norm(self.conv(x.relu(), f"conv{step}", distances), f"bn{step}")
        return x

    def operation(self, x: Any, operation: str, channels: int, stride: int) -> Any:
        if operation.startswith("separable"):
            return self.separable(x, stride)
        if operation == "1x7 7x1":
            return self.rectangular(x, stride)
        if operation == "none":
            return x if stride == 1 and x.shape[1] == channels else self.projected(x.relu(), stride)
        x = self.pooled(x, operation, stride)
        return x if x.shape[1] == channels else self.within("projection").projected(x)

    def halved(self, x: Any) -> Any:
        shifted = self.torch.nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.norm(self.torch.cat([self.conv(x, "even", (2, 2)), self.conv(shifted, "odd", (2, 2))], 1), "bn")

    def fitted(self, before: Any, x: Any, channels: int) -> Any:
        if before.shape[2:] != x.shape[2:]:
            return self.halved(before.relu())
        return before if before.shape[1] == channels else self.projected(before.relu())

    def cell(self, found: Cell, x: Any, before: Any, channels: int) -> Any:
        first = self.within("input0").projected(x.relu())
        states = [first, x if before is None else self.within("input1").fitted(before, x, channels)]
        for combination in found.combinations:
            terms = []
            for side, (operation, state) in zip(("left", "right"), combination, strict=True):
                where, stride = self.within(f"{len(states)}.{side}"), found.stride if state < 2 else 1
                terms.append(where.operation(states[state], operation, channels, stride))
            states.append(sum(terms))
        last = {i: states[i] for i in found.outputs}
        return self.torch.cat([s if s.shape[1] == channels else self.within(f"output{i}").projected(s) for i, s in last.items()], 1)

    def __call__(self, stem: Any, cells: Sequence[tuple[Cell, int]]) -> Any:
        before, x = None, stem
        for number, (found, channels) in enumerate(cells):
            before, x = x, self.within(f"cells.{number}").cell(found, x, before, channels)
        return self.torch.nn.functional.linear(x.relu().mean((2, 3)), self.weights["fc.weight"], self.weights["fc.bias"])
