"""The picture that a network is asked about, and what its class probabilities become when the picture is changed."""

from __future__ import annotations

import dataclasses as dc
import itertools
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ..classification import as_probabilities, class_scores
from ..errors import ModelError
from ..images import Preprocessing, pillow, pixels_of
from ..session import Session


@dc.dataclass(frozen=True)
class Picture:
    """One picture: `array` is the input that the model takes, (1, c, h, w), or (1, h, w, c) for layout nhwc."""

    name: str
    """Of the model's input."""
    array: np.ndarray
    how: Preprocessing

    @property
    def pixels(self) -> np.ndarray:
        """What people see: (h, w, 3) or, grey, (h, w, 1) of 0..255."""
        return pixels_of(self.array[0], self.how)

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.array.shape[1:3] if self.how.layout == "nhwc" else self.array.shape[2:]
        return height, width

    def plane(self, values: np.ndarray) -> np.ndarray:
        """Numbers (h, w), the same for each channel, as they broadcast over array[0]."""
        return values[..., None] if self.how.layout == "nhwc" else values[None]

    def grey(self) -> np.ndarray:
        """A grey as bright as the whole picture, as it broadcasts over array[0]."""
        colour = (self.pixels.mean() * self.how.scale - np.array(self.how.mean)) / np.array(self.how.std)
        whole = np.rint(colour) if self.array.dtype.kind in "iu" else colour
        shape = (1, 1, -1) if self.how.layout == "nhwc" else (-1, 1, 1)
        return whole.astype(self.array.dtype).reshape(shape)


@dc.dataclass(frozen=True)
class Scorer:
    """Class probabilities of variants of a picture, all through one compiled session, `batch` at a time."""

    session: Session
    inputs: Mapping[str, np.ndarray]
    """Of every input of the model; that of the picture is replaced."""
    picture: str
    """The name of its input."""
    output: str
    batch: int = 1
    progress: Callable[[str], None] = lambda what: None

    def __call__(self, variants: Iterable[np.ndarray]) -> np.ndarray:
        """(variants, classes) for variants without a batch axis."""
        remaining, found = iter(variants), []
        while chunk := list(itertools.islice(remaining, self.batch)):
            self.progress("asking about variants of the picture")
            full = np.stack([*chunk, *[chunk[-1]] * (self.batch - len(chunk))])
            outputs = self.session.run({**self.inputs, self.picture: full})
            _, scores = class_scores({self.output: outputs[self.output]}, None)
            if len(scores) != self.batch:
                raise ModelError(f"{len(scores)} rows of scores for {self.batch} pictures; fix the batch with --shape {self.picture}=1x...")
            found.append(as_probabilities(scores)[: len(chunk)])
        return np.concatenate(found)


def enlarged(values: np.ndarray, extent: tuple[int, int]) -> np.ndarray:
    """A map (h, w) brought to another height and width by linear interpolation."""
    image = pillow("PIL.Image")
    resized = image.fromarray(values.astype(np.float32)).resize(extent[::-1], image.Resampling.BILINEAR)
    return np.asarray(resized, np.float64)
