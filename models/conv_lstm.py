"""ConvLSTM (Shi, Chen, Wang, Yeung, Wong, Woo: Convolutional LSTM network: a machine learning approach for precipitation nowcasting, 2015).

The networks of the paper's table 1 for moving digits: an encoder reads the frames, a forecaster starts from its states, reads nothing
and makes as many frames. A peephole is one weight a channel, which is what the parameter counts of the table say.
"""

from __future__ import annotations

import numpy as np

from ..frontends.dsl import (
    Value,
    concat,
    constant,
    conv,
    convolve,
    model,
    normal,
    parameter,
    reshape,
    scope,
    sigmoid,
    split,
    tanh,
    transpose,
)

PATCH = 4
"""Frames are cut into patches of 4 x 4 pixels, which become the channels of frames a quarter the size."""
State = tuple[Value, Value]
"""What a layer says and what it remembers: h and c of the paper."""


@model(x=("batch=1", 16, "height=16", "width=16"), h=("batch=1", 128, "height=16", "width=16"), c=("batch=1", 128, "height=16", "width=16"))
def conv_lstm_cell(x: Value, h: Value, c: Value) -> dict[str, Value]:
    """ConvLSTM cell: one step of 128 hidden channels with 5 x 5 kernels and peepholes, 16 channels of input."""
    said, remembered = ConvLSTM(x.shape[1], h.shape[1])(x, (h, c))
    return {"next_h": said, "next_c": remembered}


@model(frames=("batch=1", "time=10", 1, "height=64", "width=64"))
def conv_lstm1(frames: Value) -> Value:
    """ConvLSTM of one layer of 256: the next frames of a film of moving digits in [0, 1]; extents are multiples of 4."""
    return forecast(frames, (256,))


@model(frames=("batch=1", "time=10", 1, "height=64", "width=64"))
def conv_lstm2(frames: Value) -> Value:
    """ConvLSTM of two layers of 128: the next frames of a film of moving digits in [0, 1]; extents are multiples of 4."""
    return forecast(frames, (128, 128))


@model(frames=("batch=1", "time=10", 1, "height=64", "width=64"))
def conv_lstm3(frames: Value) -> Value:
    """ConvLSTM of three layers of 128, 64 and 64: the next frames of a film of moving digits in [0, 1]; extents are multiples of 4."""
    return forecast(frames, (128, 64, 64))


class ConvLSTM:
    """A layer: its learned arrays, which every step of time uses. Without inputs it depends on its state alone."""

    def __init__(self, inputs: int, hidden: int, kernel: int = 5) -> None:
        spread = normal(0, 1 / np.sqrt((inputs + hidden) * kernel**2))
        self.input = parameter("input_weight", (4 * hidden, inputs, kernel, kernel), spread) if inputs else None
        self.hidden = parameter("hidden_weight", (4 * hidden, hidden, kernel, kernel), spread)
        self.bias = parameter("bias", (4 * hidden,), normal(0, 0.1))
        self.peepholes = parameter("peepholes", (3, hidden, 1, 1), normal(0, 0.1))

    def __call__(self, x: Value | None, state: State) -> State:
        """The equations (3) of the paper; the gates are i, f, what c takes in, and o."""
        h, c = state
        gates = convolve(h, self.hidden, self.bias, pad="same")
        if x is not None and self.input is not None:
            gates = gates + convolve(x, self.input, pad="same")
        i, f, new, o = split(gates, 4)
        i = sigmoid(i + self.peepholes[0] * c)
        f = sigmoid(f + self.peepholes[1] * c)
        c = f * c + i * tanh(new)
        o = sigmoid(o + self.peepholes[2] * c)
        return o * tanh(c), c


def forecast(frames: Value, widths: tuple[int, ...]) -> Value:
    """Figure 3: the encoder's last states are the forecaster's first ones; what all its layers say makes a frame."""
    x = to_patches(frames)
    n, steps, channels, *extents = x.shape
    encoder, forecaster = stack("encoder", channels, widths), stack("forecaster", 0, widths)
    states = [(nothing, nothing) for nothing in (constant(np.zeros((n, width, *extents), np.float32)) for width in widths)]
    for step in range(steps):
        states = advance(encoder, x[:, step], states)
    said = []
    for _ in range(steps):
        states = advance(forecaster, None, states)
        said.append(concat(*(h for h, _ in states)))
    scores = conv(concat(*said, axis=0), channels, 1, name="frame")
    in_turn = transpose(reshape(scores, (steps, n, channels, *extents)), (1, 0, 2, 3, 4))
    return from_patches(sigmoid(in_turn))


def stack(name: str, inputs: int, widths: tuple[int, ...]) -> list[ConvLSTM]:
    """Layers one upon the other"""
    layers = []
    for position, (below, width) in enumerate(zip((inputs, *widths), widths, strict=False)):
        with scope(f"{name}.{position}"):
            layers.append(ConvLSTM(below, width))
    return layers


def advance(layers: list[ConvLSTM], x: Value | None, states: list[State]) -> list[State]:
    """All layers one step of time further; each reads what the one below says."""
    following = []
    for layer, state in zip(layers, states, strict=True):
        following.append(layer(x, state))
        x = following[-1][0]
    return following


def to_patches(frames: Value) -> Value:
    """(n, t, 1, 4h, 4w) to (n, t, 16, h, w)"""
    n, steps, _, height, width = frames.shape
    cut = reshape(frames, (n, steps, height // PATCH, PATCH, width // PATCH, PATCH))
    return reshape(transpose(cut, (0, 1, 3, 5, 2, 4)), (n, steps, PATCH**2, height // PATCH, width // PATCH))


def from_patches(patches: Value) -> Value:
    """(n, t, 16, h, w) to (n, t, 1, 4h, 4w)"""
    n, steps, _, height, width = patches.shape
    apart = transpose(reshape(patches, (n, steps, PATCH, PATCH, height, width)), (0, 1, 4, 2, 5, 3))
    return reshape(apart, (n, steps, 1, height * PATCH, width * PATCH))
