"""Picture file → model input: load, resize, crop, order the channels, normalise, lay out."""

from __future__ import annotations

import dataclasses as dc
import importlib
import pathlib
from typing import Any

import numpy as np

from . import plugins
from .errors import ModelError

ORDERS = ("rgb", "bgr", "grey")
LAYOUTS = ("nchw", "nhwc")


@dc.dataclass(frozen=True)
class Preprocessing:
    """What a model expects of a picture. Sizes are (width, height) in pixels; mean and std are in the model's channel order."""

    resize_short: int | None = None
    """Scale the short side to this length and keep the proportions."""
    resize: tuple[int, int] | None = None
    """Scale to exactly this size."""
    crop: tuple[int, int] | None = None
    """Cut this size out of the centre, after scaling."""
    order: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "nchw"

    def __post_init__(self) -> None:
        if self.order not in ORDERS or self.layout not in LAYOUTS:
            raise ModelError(
                f"expected an order of {', '.join(ORDERS)} and a layout of {', '.join(LAYOUTS)}, got {self.order}, {self.layout}"
            )
        if self.resize and self.resize_short:
            raise ModelError("resize and resize_short exclude each other: the one fixes both sides, the other keeps the proportions")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise ModelError(f"{name}: expected 1 or {self.channels} numbers for order {self.order}, got {len(getattr(self, name))}")
        if 0 in (*self.std, self.scale):
            raise ModelError("std and scale: expected numbers other than 0")
        if min((*(self.resize or ()), *(self.crop or ()), self.resize_short or 1)) < 1:
            raise ModelError("expected sizes of at least 1 pixel")

    @property
    def channels(self) -> int:
        return 1 if self.order == "grey" else 3

    def scaled(self, size: tuple[int, int]) -> tuple[int, int]:
        """What a picture of this size is scaled to."""
        if self.resize_short:
            width, height = (int(self.resize_short * side / min(size)) for side in size)
            return width, height
        return self.resize or size

    def corner(self, size: tuple[int, int]) -> tuple[int, int]:
        """(left, top) of what is cut out of a scaled picture. Raises ModelError for one that is too small."""
        crop = self.crop or size
        if crop[0] > size[0] or crop[1] > size[1]:
            raise ModelError(f"cannot crop {crop[0]}x{crop[1]} out of {size[0]}x{size[1]}; resize it first")
        return round((size[0] - crop[0]) / 2), round((size[1] - crop[1]) / 2)


def read_picture(path: str | pathlib.Path, how: Preprocessing, dtype: np.dtype | None = None) -> np.ndarray:
    """The picture as (x * scale - mean) / std, of shape (1, c, h, w), or (1, h, w, c) for layout nhwc.

    Raises ModelError for a file that is no picture or too small for the crop, MachineError without Pillow.
    """
    pixels = np.asarray(_cropped(_resized(_opened(path, how), how), how, path), np.float32)
    channels_last = pixels.reshape(*pixels.shape[:2], how.channels)
    if how.order == "bgr":
        channels_last = channels_last[:, :, ::-1]
    normal = (channels_last * np.float32(how.scale) - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    laid_out = normal if how.layout == "nhwc" else normal.transpose(2, 0, 1)
    return np.ascontiguousarray(_converted(laid_out[None], np.dtype(dtype or np.float32)))


def pixels_of(model_input: np.ndarray, how: Preprocessing) -> np.ndarray:
    """The way back from one picture (c, h, w), or (h, w, c) for layout nhwc: red, green and blue, or grey, (h, w, c) of 0..255."""
    channels_last = model_input if how.layout == "nhwc" else model_input.transpose(1, 2, 0)
    pixels = (channels_last.astype(np.float64) * np.array(how.std) + np.array(how.mean)) / how.scale
    ordered = pixels[:, :, ::-1] if how.order == "bgr" else pixels
    return np.clip(np.rint(ordered), 0, 255).astype(np.uint8)


def _converted(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """To an integer dtype the nearest number that it can hold."""
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _opened(path: str | pathlib.Path, how: Preprocessing) -> Any:
    """The picture upright, in RGB or grey. Transparency is dropped, as Pillow's convert does."""
    image = pillow("PIL.Image")
    if not pathlib.Path(path).is_file():
        raise ModelError(f"no picture {str(path)!r}: there is no such file")
    try:
        with image.open(path) as stored:
            upright = pillow("PIL.ImageOps").exif_transpose(stored)
            if upright.mode.startswith("I;16"):
                upright = image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert("L" if how.order == "grey" else "RGB")
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
        raise ModelError(f"{str(path)!r} cannot be read as a picture: {error}") from error


def _resized(picture: Any, how: Preprocessing) -> Any:
    size = how.scaled(picture.size)
    return picture if size == picture.size else picture.resize(size, pillow("PIL.Image").Resampling.BILINEAR)


def _cropped(picture: Any, how: Preprocessing, path: str | pathlib.Path) -> Any:
    if how.crop is None:
        return picture
    try:
        left, top = how.corner(picture.size)
    except ModelError as error:
        raise ModelError(f"{str(path)!r}: {error}") from None
    return picture.crop((left, top, left + how.crop[0], top + how.crop[1]))


def pillow(module: str) -> Any:
    """Pillow, imported when the first picture is read."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise plugins.missing_package("PIL", "reading pictures") from error
