"""PixelCNN: what a prediction may depend on, and pictures drawn number by number."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest

import tilewright as tw
from tilewright.frontends.dsl import Value, model
from tilewright.models import pixelcnn as binary
from tilewright.models.pixelcnn import causal_mask, predictions, sample

random = np.random.default_rng(8)
ROWS, COLUMNS = 9, 10
KINDS: tuple[Literal["A", "B"], ...] = ("A", "B")


@model(image=(2, 3, ROWS, COLUMNS))
def colours(image: Value) -> Value:
    """Small: two blocks of five features, which do not divide into three colours; four values."""
    return predictions(image, blocks=2, features=5, head=7, values=4)


@pytest.fixture(scope="module")
def session() -> tw.Session:
    """Without Winograd's algorithm, whose tiles mix pixels before what is hidden cancels up to rounding."""
    return tw.compile(colours, accuracy="exact")


def place(c: int, h: int, w: int) -> int:
    """The position of a number in the order in which they are drawn."""
    return (h * COLUMNS + w) * 3 + c


def order() -> np.ndarray:
    c, h, w = np.indices((3, ROWS, COLUMNS))
    return (h * COLUMNS + w) * 3 + c


@pytest.mark.parametrize("at", [(0, 0, 0), (1, 0, 4), (0, 4, 5), (1, 4, 5), (2, 4, 5), (2, 8, 9), (0, 7, 0)])
def test_a_prediction_depends_on_nothing_later(session: tw.Session, at: tuple[int, int, int]) -> None:
    picture = random.random((2, 3, ROWS, COLUMNS), np.float32)
    changed = np.where(order() >= place(*at), random.random(picture.shape, np.float32), picture)
    before, after = session(picture), session(changed)
    earlier = np.moveaxis(np.broadcast_to(order() <= place(*at), (2, 4, 3, ROWS, COLUMNS)), 1, 2)
    np.testing.assert_array_equal(before[earlier], after[earlier])
    assert at == (2, 8, 9) or not np.array_equal(before, after)


def test_a_prediction_depends_on_what_comes_before(session: tw.Session) -> None:
    """The nearest pixels and the colours before: each alone changes it; the pixel's own colour does not."""
    picture = random.random((2, 3, ROWS, COLUMNS), np.float32)
    before = session(picture)[:, :, :, 5, 5]
    for (h, w), c in itertools.product([(4, 4), (4, 5), (4, 6), (5, 4), (5, 5)], range(3)):
        changed = picture.copy()
        changed[:, c, h, w] += 1
        moved = (session(changed)[:, :, :, 5, 5] != before).any(axis=(0, 2))
        assert list(moved) == ([True] * 3 if (h, w) != (5, 5) else [k > c for k in range(3)])


def test_fast_kernels_leak_no_more_than_rounding() -> None:
    picture = random.random((2, 3, ROWS, COLUMNS), np.float32)
    changed = np.where(order() >= place(0, 4, 5), random.random(picture.shape, np.float32), picture)
    fast = tw.compile(colours)
    earlier = np.moveaxis(np.broadcast_to(order() <= place(0, 4, 5), (2, 4, 3, ROWS, COLUMNS)), 1, 2)
    np.testing.assert_allclose(fast(picture)[earlier], fast(changed)[earlier], rtol=1e-4, atol=1e-4)


def test_masks_pixel_by_pixel() -> None:
    for kind, (k, c) in itertools.product(KINDS, itertools.product(range(7), range(5))):
        mask = causal_mask((7, 5, 3, 5), 3, kind)
        to, of = k * 3 // 7, c * 3 // 5
        for h, w in np.ndindex(3, 5):
            here = of < to or (kind == "B" and of == to)
            assert mask[k, c, h, w] == (h < 1 or (h == 1 and w < 2) or (h == 1 and w == 2 and here))


def test_sampling_reuses_one_plan_of_one_session() -> None:
    session = tw.compile(binary, shapes={"image": (2, 1, 6, 5)})
    (plan,) = session.plans.values()
    seen = []

    def counted(pictures: np.ndarray) -> np.ndarray:
        seen.append(pictures.copy())
        return session(pictures)

    drawn = sample(counted, (2, 1, 6, 5), seed=4)
    assert len(seen) == 30 and list(session.plans.values()) == [plan]
    assert set(np.unique(drawn)) == {0, 1}
    for step, pictures in enumerate(seen):
        np.testing.assert_array_equal(pictures.reshape(2, 30)[:, :step], drawn.reshape(2, 30)[:, :step])
        assert not pictures.reshape(2, 30)[:, step:].any()
    np.testing.assert_array_equal(sample(session, (2, 1, 6, 5), seed=4), drawn)
    assert not np.array_equal(sample(session, (2, 1, 6, 5), seed=5), drawn)


def test_sampling_draws_what_is_predicted() -> None:
    """A certain prediction is followed: each number is the one before plus one, modulo four."""
    shape = (1, 3, 4, 5)

    def certain(pictures: np.ndarray) -> np.ndarray:
        flat = np.rint(np.moveaxis(pictures, 1, -1).reshape(1, -1) * 3).astype(int)
        wanted = (np.concatenate([[[0]], flat[:, :-1]], axis=1) + 1) % 4
        return np.moveaxis(np.where(np.eye(4)[wanted] > 0, 100.0, -100.0).reshape(1, 4, 5, 3, 4), (3, 4), (1, 2))

    drawn = np.moveaxis(sample(certain, shape), 1, -1).reshape(-1) * 3
    np.testing.assert_allclose(drawn, np.arange(1, 61) % 4, atol=1e-6)


def test_sampling_follows_the_probabilities() -> None:
    chances = np.array([0.1, 0.6, 0.3])

    def fixed(pictures: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.log(chances)[:, None, None], (*pictures.shape[:2], 3, *pictures.shape[2:]))

    drawn = sample(fixed, (5000, 1, 1, 2), seed=1)
    assert sorted(np.unique(drawn)) == [0, 0.5, 1]
    np.testing.assert_allclose([np.mean(drawn == value) for value in (0, 0.5, 1)], chances, atol=0.02)
