"""Waveform CNN (Dai, Dai, Qu, Li, Das: Very deep convolutional neural networks for raw waveforms, 2016)."""

from __future__ import annotations

from ..frontends.dsl import Value, batch_norm, conv, flatten, global_average_pool, linear, max_pool, model, relu

Stage = tuple[int, int]
"""(channels, convolutions)"""


@model(waveform=("batch=1", 1, "samples=32000"))
def waveform_m3(waveform: Value) -> Value:
    """M3, 10 classes of UrbanSound8k (logits), from four seconds of sound at 8 kHz."""
    return waveform_cnn(waveform, 256, ((256, 1),))


@model(waveform=("batch=1", 1, "samples=32000"))
def waveform_m5(waveform: Value) -> Value:
    """M5, 10 classes of UrbanSound8k (logits), from four seconds of sound at 8 kHz."""
    return waveform_cnn(waveform, 128, ((128, 1), (256, 1), (512, 1)))


@model(waveform=("batch=1", 1, "samples=32000"))
def waveform_m11(waveform: Value) -> Value:
    """M11, 10 classes of UrbanSound8k (logits), from four seconds of sound at 8 kHz."""
    return waveform_cnn(waveform, 64, ((64, 2), (128, 2), (256, 3), (512, 2)))


@model(waveform=("batch=1", 1, "samples=32000"))
def waveform_m18(waveform: Value) -> Value:
    """M18, 10 classes of UrbanSound8k (logits), from four seconds of sound at 8 kHz."""
    return waveform_cnn(waveform, 64, ((64, 4), (128, 4), (256, 4), (512, 4)))


def waveform_cnn(waveform: Value, channels: int, stages: tuple[Stage, ...], classes: int = 10) -> Value:
    """[80/4, channels], then [3, width] as often as each stage says, a pooling after each of the first four, and the mean over time."""
    x = max_pool(normalised(waveform, channels, 80, stride=4), 4, pad="same")
    for position, (width, convolutions) in enumerate(stages, start=2):
        for _ in range(convolutions):
            x = normalised(x, width, 3)
        if position <= 4:
            x = max_pool(x, 4, pad="same")
    return linear(flatten(global_average_pool(x)), classes)


def normalised(x: Value, channels: int, kernel: int, stride: int = 1) -> Value:
    """relu(batch_norm(convolution))"""
    return relu(batch_norm(conv(x, channels, kernel, stride, pad="same", bias=False)))
