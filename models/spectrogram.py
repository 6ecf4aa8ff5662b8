"""Log-mel spectrogram of a sound as a part of the model: a discrete Fourier transform is a strided convolution with fixed kernels."""

from __future__ import annotations

import numpy as np

from ..frontends.dsl import Value, constant, convolve, layer, log, reshape, sqrt, transpose

FLOOR = 0.01
"""What is added before the logarithm: silence stays finite."""


@layer
def log_mel_spectrogram(sound: Value, bands: int = 40, rate: int = 16_000, window: float = 0.025, hop: float = 0.010) -> Value:
    """sound (n, 1, samples) to (n, 1, frames, bands): how strong each band of frequencies is in each window (seconds, every `hop` seconds).

    Windows are those of Hann and lie inside the sound; bands are triangles on the mel scale, over magnitudes.
    """
    extent, step = round(window * rate), round(hop * rate)
    waves = fourier_kernels(extent)
    bins = waves.shape[0] // 2
    spectrum = convolve(sound, constant(waves[:, None]), stride=step)
    real, imaginary = spectrum[:, :bins], spectrum[:, bins:]
    magnitudes = sqrt(real * real + imaginary * imaginary)
    mel = convolve(magnitudes, constant(mel_bands(bands, bins, rate / 2)[:, :, None]))
    return reshape(transpose(log(mel + FLOOR), (0, 2, 1)), (sound.shape[0], 1, -1, bands))


def fourier_kernels(extent: int) -> np.ndarray:
    """(2 * bins, points): Hann's window times cosine, then times sine, at the frequencies that a fast transform of 2^k points has."""
    points = 1 << (extent - 1).bit_length()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(extent) / extent)
    turns = np.outer(np.arange(points // 2 + 1), np.arange(extent)) / points
    return np.concatenate([hann * np.cos(2 * np.pi * turns), -hann * np.sin(2 * np.pi * turns)]).astype(np.float32)


def mel_bands(bands: int, bins: int, highest: float) -> np.ndarray:
    """(bands, bins): triangles that overlap by half, equally wide on the mel scale, from 0 Hz to the highest frequency."""
    mel = 1127 * np.log1p(np.linspace(0, highest, bins) / 700)
    corners = np.linspace(0, mel[-1], bands + 2)[:, None]
    rising = (mel - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - mel) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
