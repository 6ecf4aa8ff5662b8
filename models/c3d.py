"""C3D (Tran, Bourdev, Fergus, Torresani, Paluri: Learning spatiotemporal features with 3D convolutional networks, 2014).

Dropout does nothing in inference and is left out.
"""

from __future__ import annotations

from ..frontends.dsl import Value, conv, flatten, linear, max_pool, model, relu

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""The channels of conv1a, conv2a, conv3a, conv3b, ...; a pooling follows each stage."""


@model(video=("batch=1", 3, "frames=16", "height=112", "width=112"))
def c3d(video: Value) -> Value:
    """C3D, 487 sports of Sports-1M (logits), from 16 frames of 112 x 112."""
    x = video
    for stage, widths in enumerate(STAGES, start=1):
        for letter, channels in zip("ab", widths, strict=False):
            x = relu(conv(x, channels, 3, pad=1, name=f"conv{stage}{letter}"))
        x = max_pool(x, (1, 2, 2) if stage == 1 else 2, ceil=True)
    x = relu(linear(flatten(x), 4096, name="fc6"))
    x = relu(linear(x, 4096, name="fc7"))
    return linear(x, 487, name="fc8")
