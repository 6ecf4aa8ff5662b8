"""Normalisation over neighbouring channels, and with given statistics where no pass has made it pointwise."""

from __future__ import annotations

import dataclasses as dc

from ...engine.ops import LRN, BatchNorm
from ..common.cuda_functions import library, literal, loaded, power, register_type, stored
from .elements import ElementKernel, channel_pack, check_size, lines, strides_of, weighted
from .kernel import Call, Machine, NoKernel, Parameter, lowers

STATISTICS = ("scale", "shift", "mean", "variance")


@dc.dataclass(frozen=True)
class LrnKernel(ElementKernel):
    """y[n,c,...] = x[n,c,...] / (bias + alpha/size * sum of x^2 over the channels from c - before to c - before + size) ^ beta."""

    size: int
    alpha: float
    beta: float
    bias: float

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return Parameter("x", self.y.dtype), Parameter("y", self.y.dtype, written=True)

    def element(self) -> str:
        dtype, strides, channels = self.y.dtype, strides_of(self.y), self.y.shape[1]
        kind, before = register_type(dtype), (self.size - 1) // 2
        rest = weighted([f"i{axis}" for axis in range(self.y.rank) if axis != 1], [s for axis, s in enumerate(strides) if axis != 1])
        share, base = literal(self.alpha / self.size, dtype), literal(self.bias, dtype)
        return lines(
            f"const int first = max(i1 - {before}, 0), last = min(i1 + {self.size - before}, {channels});",
            f"const auto* const from = x + ({rest});",
            f"{kind} squares = 0;",
            "for (int c = first; c < last; c++) {",
            f"const {kind} one = {loaded(f'from[c * {strides[1]}]', dtype)};",
            "squares += one * one;",
            "}",
            f"const {kind} total = {base} + {share} * squares;",
            f"const {kind} own = {loaded(f'from[i1 * {strides[1]}]', dtype)};",
            f"result.at[0] = {stored(f'(own / {self._power()})', dtype)};",
            f"if ({self.is_padding}) result.at[0] = {stored(literal(0, dtype), dtype)};" if self.is_padding else "",
            spaces=0,
        )

    def _power(self) -> str:
        root = library("sqrt")
        if self.beta == 0.75:
            return f"({root(self.y.dtype, 'total')} * {root(self.y.dtype, root(self.y.dtype, 'total'))})"
        return power(self.y.dtype, "total", literal(self.beta, self.y.dtype), self.beta)


@dc.dataclass(frozen=True)
class BatchNormKernel(ElementKernel):
    """y[n,c,...] = (x[n,c,...] - mean[c]) / sqrt(variance[c] + epsilon) * scale[c] + shift[c]."""

    epsilon: float

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (*(Parameter(name, self.y.dtype) for name in ("x", *STATISTICS)), Parameter("y", self.y.dtype, written=True))

    def element(self) -> str:
        dtype = self.y.dtype
        kind = register_type(dtype)
        given = [f"const {kind} {name}_here = {loaded(f'{name}[c]', dtype)};" for name in STATISTICS]
        at = weighted([f"i{axis}" for axis in range(self.y.rank)], strides_of(self.y))
        deviation = library("sqrt")(dtype, f"variance_here + {literal(self.epsilon, dtype)}")
        value = f"((widened - mean_here) / {deviation} * scale_here + shift_here)"
        return lines(
            f"const Pack<{self.y_type}, {self.pack}> own = *(const Pack<{self.y_type}, {self.pack}>*)(x + ({at}));",
            f"UNROLL for (int v = 0; v < {self.pack}; v++) {{",
            f"const int c = min(i1 + {'v' if self.pack > 1 else '0'}, {self.y.shape[1] - 1});",
            *given,
            f"const {kind} widened = {loaded('own.at[v]', dtype)};",
            f"result.at[v] = {stored(value, dtype)};",
            "}",
            spaces=0,
        )


@lowers(LRN)
def lower_lrn(node: LRN, machine: Machine) -> list[Call]:
    """One kernel."""
    _check(node)
    return [Call(LrnKernel(node.type, 1, node.size, node.alpha, node.beta, node.bias), {"x": node.x, "y": node})]


@lowers(BatchNorm)
def lower_batch_norm(node: BatchNorm, machine: Machine) -> list[Call]:
    """One kernel."""
    _check(node)
    statistics = {name: getattr(node, name) for name in STATISTICS}
    return [Call(BatchNormKernel(node.type, channel_pack(node.type), node.epsilon), statistics | {"x": node.x, "y": node})]


def _check(node: LRN | BatchNorm) -> None:
    check_size(node.type)
    if node.x.type.layout != node.type.layout or any(o.type.layout for o in node.operands[1:]):
        raise NoKernel(f"{node.type} of {node.x.type}: a normalisation keeps the layout")
