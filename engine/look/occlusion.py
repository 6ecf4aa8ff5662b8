"""Occlusion (Zeiler, Fergus: Visualizing and understanding convolutional networks, 2013): what the class loses when a part is hidden."""

from __future__ import annotations

import dataclasses as dc
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from .picture import Picture

PATCHES = 7
"""How many patches side by side cover the short side of a picture, unless somebody says otherwise."""


@dc.dataclass(frozen=True)
class Occlusion:
    """How much the class loses under each position of the patch."""

    rows: tuple[int, ...]
    """The top of the patch for each row of `drops`."""
    columns: tuple[int, ...]
    patch: int
    drops: np.ndarray
    """(rows, columns): the probability of the whole picture minus that of the occluded one."""

    def over(self, extent: tuple[int, int]) -> np.ndarray:
        """For each pixel the mean drop of the patches that hid it, those in whose middle it was counting most."""
        rising = np.minimum(np.arange(self.patch), np.arange(self.patch)[::-1]) + 1.0
        window = np.outer(rising, rising)
        total, count = np.zeros(extent), np.zeros(extent)
        for (top, left), drop in zip(itertools.product(self.rows, self.columns), self.drops.ravel(), strict=True):
            total[top : top + self.patch, left : left + self.patch] += drop * window
            count[top : top + self.patch, left : left + self.patch] += window
        return np.divide(total, count, out=total, where=count > 0)


def positions(extent: int, patch: int, step: int) -> tuple[int, ...]:
    """Where patches begin so that they reach both ends; steps longer than a patch leave gaps."""
    return tuple(dict.fromkeys([*range(0, extent - patch + 1, step), extent - patch]))


def default_patch(extent: tuple[int, int]) -> int:
    """The side of a patch for a picture of this size."""
    return max(1, round(min(extent) / PATCHES))


def occlusion(
    probabilities: Callable[[Iterable[np.ndarray]], np.ndarray], picture: Picture, target: int, patch: int, step: int
) -> Occlusion:
    """Slide a grey square over the picture. `probabilities` gives (variants, classes) for pictures; `target` is the class."""
    rows, columns = (positions(side, patch, step) for side in picture.extent)

    def variants() -> Iterator[np.ndarray]:
        yield picture.array[0]
        for top, left in itertools.product(rows, columns):
            hidden = np.zeros(picture.extent, bool)
            hidden[top : top + patch, left : left + patch] = True
            yield np.where(picture.plane(hidden), picture.grey(), picture.array[0])

    whole, *occluded = probabilities(variants())[:, target]
    return Occlusion(rows, columns, patch, whole - np.reshape(occluded, (len(rows), len(columns))))
