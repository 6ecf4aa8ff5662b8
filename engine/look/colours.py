"""Numbers → pictures: grey and coloured maps, kernels, heat over a picture; as PNG data that a page can hold."""

from __future__ import annotations

import base64
import io

import numpy as np

from ..images import pillow

DARK_TO_BRIGHT = ((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164))
"""Ever brighter, from black over purple and orange to light yellow."""
WARM = ((255, 221, 120), (255, 160, 50), (240, 70, 30), (170, 0, 30))
COLD = ((150, 210, 245), (80, 160, 225), (30, 100, 190), (10, 50, 130))
FAINT, STRONG, DARKEST = 0.12, 0.85, 45
"""Where heat starts to be visible, as a share of the largest; how much of the picture the largest hides; what black becomes under it."""


def ramp(values: np.ndarray, colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Numbers from 0 to 1 as colours between the given ones, (..., 3) floats of 0..255."""
    places = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(values, places, channel) for channel in zip(*colours, strict=True)], -1)


def map_colours(values: np.ndarray) -> np.ndarray:
    """A feature map (h, w) from its smallest number, dark, to its largest, bright; what is no number counts as 0."""
    known = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = known.min(), known.max()
    return ramp((known - low) / (high - low) if high > low else np.zeros(known.shape), DARK_TO_BRIGHT)


def kernel_colours(weights: np.ndarray) -> np.ndarray:
    """A kernel (h, w) or (h, w, 3): 0 is mid grey, the largest magnitude white or black, or a full or missing colour."""
    return 127.5 + 127.5 * weights / (np.abs(weights).max() or 1.0)


def heat(pixels: np.ndarray, values: np.ndarray, largest: float) -> np.ndarray:
    """A picture (h, w, 1 or 3) in grey under colours: warm for positive numbers (h, w), cold for negative ones, none for zero."""
    strength = np.clip(np.abs(values) / (largest or 1.0), 0, 1)
    colours = np.where((values > 0)[..., None], ramp(strength, WARM), ramp(strength, COLD))
    cover = STRONG * np.clip((strength - FAINT) / (1 - FAINT), 0, 1)[..., None] ** 0.6
    grey = DARKEST + (255 - DARKEST) / 255 * np.repeat(pixels.mean(-1, keepdims=True), 3, -1)
    return grey * (1 - cover) + colours * cover


def heat_strip(smallest: float, largest: float) -> np.ndarray:
    """The colours from one number to another, over mid grey."""
    values = np.tile(np.linspace(smallest, largest, 256), (1, 1))
    return heat(np.full((1, 256, 1), 127.5), values, max(abs(smallest), abs(largest)))


def magnified(pixels: np.ndarray, least: int) -> np.ndarray:
    """Every pixel repeated so often that the short side has at least so many of them."""
    factor = -(-least // min(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1)


def png(pixels: np.ndarray) -> str:
    """A picture (h, w), (h, w, 1) or (h, w, 3) of 0..255 as the address of an image that is in the page itself."""
    flat = pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels
    file = io.BytesIO()
    pillow("PIL.Image").fromarray(np.clip(np.rint(flat), 0, 255).astype(np.uint8)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
