"""Keyword spotting CNN (Sainath, Parada: Convolutional neural networks for small-footprint keyword spotting, 2015)."""

from __future__ import annotations

from ..frontends.dsl import Value, conv, flatten, linear, max_pool, model, relu
from .spectrogram import log_mel_spectrogram


@model(features=("batch=1", 1, 32, 40))
def keyword_cnn(features: Value) -> Value:
    """Keyword CNN cnn-trad-fpool3, 4 classes (logits), from 32 frames of 40 log-mel features."""
    x = max_pool(relu(conv(features, 64, (20, 8))), (1, 3))
    x = relu(conv(x, 64, (10, 4)))
    x = linear(flatten(x), 32)
    return linear(relu(linear(x, 128)), 4)


@model(sound=("batch=1", 1, 5360))
def keyword_cnn_sound(sound: Value) -> Value:
    """Keyword CNN cnn-trad-fpool3 with its spectrogram, 4 classes (logits), from 0.335 seconds of sound at 16 kHz: 32 frames."""
    return keyword_cnn(log_mel_spectrogram(sound))
