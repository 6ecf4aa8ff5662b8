"""Layers of the DSL that read at positions: pooling into a given number of regions, gathering, summing by index, embedding."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.ops import Gather
from tilewright.frontends import dsl as nn

random = np.random.default_rng(3)


def run(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """The function as a model of these inputs, on the cpu backend, without steps in NumPy."""
    names = "xyz"[: len(arrays)]
    declared = {name: (array.dtype, *array.shape) for name, array in zip(names, arrays, strict=True)}
    session = tw.compile(nn.model(**declared)(function))
    assert " 0 numpy steps" in session.plan
    return session(*arrays)


def adaptive(x: np.ndarray, extents: tuple[int, ...], choose: Callable[..., Any]) -> np.ndarray:
    result = np.empty((*x.shape[:2], *extents))
    for place in itertools.product(*map(range, extents)):
        bounds = zip(place, x.shape[2:], extents, strict=True)
        region = tuple(slice(int(np.floor(i * n / m)), int(np.ceil((i + 1) * n / m))) for i, n, m in bounds)
        result[(..., *place)] = choose(x[(..., *region)].astype(float), axis=tuple(range(2, x.ndim)))
    return result


EXTENTS = [
    ((13,), (5,)), ((4,), (9,)), ((13, 16), (1, 1)), ((13, 16), (13, 16)), ((13, 16), (3, 5)), ((13, 16), (7, 4)), ((13, 16), (1, 7)),
    ((13, 16), (26, 19)), ((1, 5), (3, 2)), ((10, 3), (4, 3)), ((4, 7, 5), (2, 3, 5)), ((6, 7, 5), (4, 2, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("spatial", "extents"), EXTENTS)
@pytest.mark.parametrize(("ours", "choose"), [(nn.adaptive_average_pool, np.mean), (nn.adaptive_max_pool, np.max)], ids=["average", "max"])
def test_adaptive_pooling(ours: Any, choose: Any, spatial: tuple[int, ...], extents: tuple[int, ...]) -> None:
    x = random.standard_normal((2, 3, *spatial), np.float32) - 3
    np.testing.assert_allclose(run(lambda x: ours(x, extents), x), adaptive(x, extents, choose), rtol=2e-6)


@pytest.mark.torch
@pytest.mark.parametrize(("spatial", "extents"), EXTENTS)
def test_adaptive_pooling_as_in_torch(spatial: tuple[int, ...], extents: tuple[int, ...]) -> None:
    functional = pytest.importorskip("torch").nn.functional
    torch = pytest.importorskip("torch")
    x = random.standard_normal((1, 2, *spatial), np.float32)
    for ours, theirs in ((nn.adaptive_average_pool, "avg"), (nn.adaptive_max_pool, "max")):
        expected = getattr(functional, f"adaptive_{theirs}_pool{len(spatial)}d")(torch.from_numpy(x), extents).numpy()
        np.testing.assert_allclose(run(lambda x, ours=ours: ours(x, extents), x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("spatial", "extents", "even"),
    [((14, 21), (7, 3), True), ((15, 9), (7, 9), True), ((9, 7), 1, True), ((15, 10), (7, 4), False), ((6, 6), (6, 12), False)],
)
def test_even_regions_are_plain_pooling(spatial: tuple[int, int], extents: Any, even: bool) -> None:
    """15 positions fall into 7 windows of 3 at every second one."""

    def both(x: nn.Value) -> Any:
        return nn.adaptive_average_pool(x, extents), nn.adaptive_max_pool(x, extents)

    assert (not list(tw.load(nn.model(x=(1, 2, *spatial))(both)).find(Gather))) == even


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize(("size", "count"), [(25, 17), (36, 25), (12, 11), (12, 6), (13, 6), (7, 1), (30, 8)])
def test_regions_of_fractional_pooling(size: int, count: int, overlap: bool) -> None:
    """Of a line that rises each maximum says where its region ends, of one that falls where it begins."""
    rising = np.arange(size, dtype=np.float32)[None, None]
    found = {}
    for seed in range(8):
        ends = run(lambda x, seed=seed: nn.fractional_max_pool(x, count, overlap, seed), rising)[0, 0]
        starts = -run(lambda x, seed=seed: nn.fractional_max_pool(x, count, overlap, seed), -rising)[0, 0]
        assert starts[0] == 0 and ends[-1] == size - 1
        np.testing.assert_array_equal(starts[1:], ends[:-1] + (not overlap))
        assert np.ptp(ends - starts) <= 1
        found[tuple(ends)] = seed
    assert len(found) > 1 or (size - overlap) % count == 0


def test_fractional_pooling_of_pictures() -> None:
    x = random.standard_normal((2, 3, 11, 14), np.float32)
    line = [np.arange(n, dtype=np.float32) for n in (11, 14)]
    ends = [run(lambda x: nn.fractional_max_pool(x, (6, 9), seed=4), p[None, None]) for p in np.meshgrid(*line, indexing="ij")]
    starts = [-run(lambda x: nn.fractional_max_pool(x, (6, 9), seed=4), -p[None, None]) for p in np.meshgrid(*line, indexing="ij")]
    found = run(lambda x: nn.fractional_max_pool(x, (6, 9), seed=4), x)
    for i, j in np.ndindex(6, 9):
        (top, left), (bottom, right) = ([int(p[0, 0, i, j]) for p in bounds] for bounds in (starts, ends))
        np.testing.assert_array_equal(found[:, :, i, j], x[:, :, top : bottom + 1, left : right + 1].max((2, 3)))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_gather(axis: int, dtype: Any) -> None:
    x, places = random.standard_normal((4, 5, 3), np.float32), random.integers(-3, 3, (2, 7), dtype)
    np.testing.assert_array_equal(run(lambda x, y: nn.gather(x, y, axis), x, places), np.take(x, places, axis))


@pytest.mark.parametrize("inner", [(), (1,), (7,), (3, 5)])
def test_scatter_sum(inner: tuple[int, ...]) -> None:
    rows, places = random.standard_normal((23, *inner), np.float32), random.integers(-5, 5, 23)
    expected = np.stack([rows[places % 11 == i].sum(0, dtype=float) for i in range(11)])
    np.testing.assert_allclose(run(lambda x, y: nn.scatter_sum(x, y, 11), rows, places), expected, rtol=1e-5, atol=1e-5)


def test_embedding() -> None:
    table = random.standard_normal((9, 4), np.float32)
    looked = nn.model(words=(np.int32, "batch=1", "length=5"))(lambda words: nn.embedding(words, 9, 4, name="words"))
    session = tw.compile(looked.with_weights({"words.weight": table}))
    for shape in ((2, 3), (1, 8)):
        words = random.integers(0, 9, shape, np.int32)
        np.testing.assert_array_equal(session(words), table[words])


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (2, 2, 3), ((4, 1), (3, 2), (2, 5))])
def test_full_padding_has_every_window_that_meets_x(kernel: Any, stride: Any, dilation: Any) -> None:
    """They begin at extent + reach positions, of which every stride-th counts."""
    full = nn.model(x=(1, 1, 5, 6))(lambda x: nn.conv(x, 1, kernel, stride, "full", dilation, bias=False))
    extents, strides, dilations = (np.broadcast_to(v, 2) for v in (kernel, stride, dilation))
    reach = (extents - 1) * dilations
    expected = tuple(-(-(np.array([5, 6]) + reach) // strides))
    assert tw.load(full).outputs[0].type.shape == (1, 1, *expected)
