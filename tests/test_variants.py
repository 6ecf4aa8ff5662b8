"""Every variant of convolution and pooling on the cpu backend, against formulas of our own, and PyTorch where it has the layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.frontends import dsl as nn
from tilewright.models.variants import VARIANTS

Weights = dict[str, np.ndarray]
random = np.random.default_rng(11)
BY_NAME = {variant.name: variant for variant in VARIANTS}


def windows(x: np.ndarray, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> np.ndarray:
    """(n, c, *positions, *kernel)"""
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    axes = tuple(range(2, x.ndim))
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    steps = (*(slice(None, None, s) for s in stride), *(slice(None, None, d) for d in dilation))
    return seen[(slice(None), slice(None), *steps)]


def convolved(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int | tuple = 1, pads: Any = 0, dilation: int | tuple = 1, groups: int = 1
) -> np.ndarray:
    """Window by window, in float64."""
    rank = x.ndim - 2
    spread = [v if isinstance(v, tuple) else (v,) * rank for v in (stride, pads, dilation)]
    around = [p if isinstance(p, tuple) else (p, p) for p in spread[1]]
    seen = windows(np.pad(x.astype(float), [(0, 0), (0, 0), *around]), weight.shape[2:], spread[0], spread[2])
    parts = []
    for part, filters in zip(np.split(seen, groups, axis=1), np.split(weight.astype(float), groups), strict=True):
        kernel_axes = [part.ndim - rank + i for i in range(rank)]
        parts.append(np.moveaxis(np.tensordot(part, filters, ([1, *kernel_axes], range(1, filters.ndim))), -1, 1))
    return np.concatenate(parts, axis=1) + bias.reshape(-1, *[1] * rank)


def layer(function: Callable[..., np.ndarray], name: str = "conv1", **options: Any) -> Callable[[np.ndarray, Weights], np.ndarray]:
    return lambda x, w: function(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)


def then(first: Callable[..., np.ndarray], second: Callable[..., np.ndarray]) -> Callable[[np.ndarray, Weights], np.ndarray]:
    return lambda x, w: second(first(x, w), w)


def transposed(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Zeros between the pixels, then a convolution with the turned kernel."""
    spread = np.zeros((*x.shape[:2], *(2 * n - 1 for n in x.shape[2:])), x.dtype)
    spread[:, :, ::2, ::2] = x
    return convolved(spread, np.swapaxes(weight, 0, 1)[..., ::-1, ::-1], bias, pads=((1, 2), (1, 1)))


def masked(x: np.ndarray, w: Weights) -> np.ndarray:
    weight = w["masked_conv1.weight"].copy()
    weight[:, :, 2, 2:] = weight[:, :, 3:] = 0
    return convolved(x, weight, w["masked_conv1.bias"], pads=2)


def pooled(choose: Callable[..., Any], *axes: Sequence[range]) -> Callable[[np.ndarray, Weights], np.ndarray]:
    """Region by region: for each axis the positions that belong to each region."""

    def function(x: np.ndarray, w: Weights) -> np.ndarray:
        result = np.empty((*x.shape[:2], *map(len, axes)), np.float64)
        for place in itertools.product(*(range(len(regions)) for regions in axes)):
            region = np.ix_(range(x.shape[0]), range(x.shape[1]), *(regions[i] for regions, i in zip(axes, place, strict=True)))
            result[(..., *place)] = choose(x[region].astype(float), axis=tuple(range(2, x.ndim)))
        return result

    return function


def adaptive(size: int, count: int) -> list[range]:
    return [range(int(np.floor(i * size / count)), int(np.ceil((i + 1) * size / count))) for i in range(count)]


def inside(size: int, starts: Sequence[int], extent: int) -> list[range]:
    return [range(max(0, start), min(size, start + extent)) for start in starts]


def borders(size: int, count: int, axis: int) -> list[int]:
    """ceil(ratio * (i + u)) from 0 to `size`, for the u that the seed 1 gives to an axis."""
    u = np.random.default_rng(1).random(2)[axis]
    return [int(np.ceil(size / count * (i + u)) - np.ceil(size / count * u)) for i in range(count)] + [size]


def fractional(size: int, count: int, axis: int, overlap: bool) -> list[range]:
    found = borders(size - overlap, count, axis)
    return [range(a, b + overlap) for a, b in itertools.pairwise(found)]


FORMULAS: dict[str, Callable[[np.ndarray, Weights], np.ndarray]] = {
    "valid": layer(convolved),
    "full": layer(convolved, pads=(2, 3)),
    "same_odd": layer(convolved, pads=(1, 2)),
    "same_even": layer(convolved, pads=((0, 1), (1, 2))),
    "strided": layer(convolved, stride=(2, 3)),
    "dilated": layer(convolved, dilation=(2, 3)),
    "transposed": layer(transposed, "conv_transpose1"),
    "grouped": layer(convolved, groups=3),
    "depthwise": layer(convolved, pads=1, groups=6),
    "separable": then(layer(convolved, pads=1, groups=6), layer(convolved, "conv2")),
    "separable_in_space": then(layer(convolved), layer(convolved, "conv2")),
    "pointwise": lambda x, w: np.einsum("nchw,kc->nkhw", x, w["conv1.weight"][..., 0, 0]) + w["conv1.bias"][:, None, None],
    "masked": masked,
    "one_dimensional": layer(convolved, stride=2, pads=2, dilation=2),
    "three_dimensional": layer(convolved, stride=(1, 2, 1), pads=((1, 0), (1, 1), (0, 2))),
    "max_pooling": pooled(np.max, inside(11, range(0, 10, 2), 2), inside(14, range(0, 14, 2), 2)),
    "average_pooling": pooled(np.mean, inside(11, range(-1, 10, 2), 3), inside(14, range(-1, 13, 2), 3)),
    "overlapping_pooling": pooled(np.max, inside(11, range(0, 9, 2), 3), inside(14, range(0, 12, 2), 3)),
    "pooling_to_the_end": pooled(np.max, inside(11, range(0, 11, 2), 2), inside(14, range(0, 14, 2), 2)),
    "global_average_pooling": pooled(np.mean, [range(11)], [range(14)]),
    "global_max_pooling": pooled(np.max, [range(11)], [range(14)]),
    "adaptive_average_pooling": pooled(np.mean, adaptive(11, 4), adaptive(14, 7)),
    "adaptive_max_pooling": pooled(np.max, adaptive(11, 4), adaptive(14, 7)),
    "fractional_pooling": pooled(np.max, fractional(11, 7, 0, True), fractional(14, 9, 1, True)),
    "disjoint_fractional_pooling": pooled(np.max, fractional(11, 7, 0, False), fractional(14, 9, 1, False)),
}
TORCH: dict[str, tuple[str, dict[str, Any]]] = {
    "valid": ("conv2d", {"padding": "valid"}),
    "full": ("conv2d", {"padding": (2, 3)}),
    "same_odd": ("conv2d", {"padding": "same"}),
    "same_even": ("conv2d", {"padding": "same"}),
    "strided": ("conv2d", {"stride": (2, 3)}),
    "dilated": ("conv2d", {"dilation": (2, 3)}),
    "transposed": ("conv_transpose2d", {"stride": 2, "padding": 1, "output_padding": (1, 0)}),
    "grouped": ("conv2d", {"groups": 3}),
    "depthwise": ("conv2d", {"padding": 1, "groups": 6}),
    "pointwise": ("conv2d", {}),
    "one_dimensional": ("conv1d", {"stride": 2, "padding": 2, "dilation": 2}),
    "max_pooling": ("max_pool2d", {"kernel_size": 2}),
    "average_pooling": ("avg_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
    "overlapping_pooling": ("max_pool2d", {"kernel_size": 3, "stride": 2}),
    "pooling_to_the_end": ("max_pool2d", {"kernel_size": 2, "ceil_mode": True}),
    "global_average_pooling": ("adaptive_avg_pool2d", {"output_size": 1}),
    "global_max_pooling": ("adaptive_max_pool2d", {"output_size": 1}),
    "adaptive_average_pooling": ("adaptive_avg_pool2d", {"output_size": (4, 7)}),
    "adaptive_max_pooling": ("adaptive_max_pool2d", {"output_size": (4, 7)}),
}
"""The function of torch.nn.functional and its options."""


def answer(variant: nn.Model, batch: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Random x of the typical extents, and what generated kernels make of it."""
    (spec,) = variant.inputs
    assert spec.typical
    x = random.standard_normal((batch, *spec.typical[1:]), np.float32)
    session = tw.compile(variant, shapes={"x": x.shape})
    assert " 0 numpy steps" in session.plan, session.plan
    return x, session(x)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def test_every_variant_has_a_formula() -> None:
    assert list(FORMULAS) == list(BY_NAME) and len(BY_NAME) == len(VARIANTS)
    assert all(variant.__doc__ for variant in VARIANTS)


@pytest.mark.parametrize("name", BY_NAME)
def test_formula(name: str) -> None:
    x, found = answer(BY_NAME[name])
    close(found, FORMULAS[name](x, BY_NAME[name].parameters()))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", TORCH)
def test_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x, found = answer(BY_NAME[name], batch=2)
    function, options = TORCH[name]
    weights = [torch.from_numpy(array) for array in BY_NAME[name].parameters().values()]
    close(found, getattr(torch.nn.functional, function)(torch.from_numpy(x), *weights, **options).numpy())


@pytest.mark.torch
def test_three_dimensions_as_in_torch() -> None:
    torch = pytest.importorskip("torch")
    x, found = answer(BY_NAME["three_dimensional"])
    padded = torch.from_numpy(np.pad(x, [(0, 0), (0, 0), (1, 0), (1, 1), (0, 2)]))
    weights = [torch.from_numpy(array) for array in BY_NAME["three_dimensional"].parameters().values()]
    close(found, torch.nn.functional.conv3d(padded, *weights, stride=(1, 2, 1)).numpy())
