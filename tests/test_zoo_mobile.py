"""Networks for mobile devices: compound scaling, width multipliers, the inverted residual, the channel shuffle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine import plugins
from tilewright.engine.evaluate import evaluate
from tilewright.frontends import dsl as nn
from tilewright.models import mnasnet_a1, shufflenet_v2_x1_0
from tilewright.models.blocks import squeeze_excitation
from tilewright.models.inverted_residual import inverted_residual, torchvision_names
from tilewright.models.mnasnet import B1, mnasnet
from tilewright.models.mobilenet_v2 import mobilenet
from tilewright.models.shufflenet_v2 import channel_shuffle

SCALED = {
    "efficientnet_b0": (224, 32, (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1), 1280, 0.39e9),
    "efficientnet_b1": (240, 32, (16, 24, 40, 80, 112, 192, 320), (2, 3, 3, 4, 4, 5, 2), 1280, 0.70e9),
    "efficientnet_b2": (260, 32, (16, 24, 48, 88, 120, 208, 352), (2, 3, 3, 4, 4, 5, 2), 1408, 1.0e9),
    "efficientnet_b3": (300, 40, (24, 32, 48, 96, 136, 232, 384), (2, 3, 3, 5, 5, 6, 2), 1536, 1.8e9),
    "efficientnet_b4": (380, 48, (24, 32, 56, 112, 160, 272, 448), (2, 4, 4, 6, 6, 8, 2), 1792, 4.2e9),
    "efficientnet_b5": (456, 48, (24, 40, 64, 128, 176, 304, 512), (3, 5, 5, 7, 7, 9, 3), 2048, 9.9e9),
    "efficientnet_b6": (528, 56, (32, 40, 72, 144, 200, 344, 576), (3, 6, 6, 8, 8, 11, 3), 2304, 19e9),
    "efficientnet_b7": (600, 64, (32, 48, 80, 160, 224, 384, 640), (4, 7, 7, 10, 10, 13, 4), 2560, 37e9),
}
"""Resolution, first channels, channels and layers of the stages and features, as timm's tf_efficientnet_b0 to b7 have them; then
the multiply-adds of the paper's table 2, which are rounded and may leave out what is not a convolution."""


@pytest.mark.parametrize("name", SCALED)
def test_compound_scaling(name: str) -> None:
    resolution, stem, channels, layers, features, multiply_adds = SCALED[name]
    model = plugins.load("models", name)
    assert model.inputs[0].typical == (1, 3, resolution, resolution)
    shapes = {key: p.shape for key, p in model.declarations().items() if key.endswith(".weight")}
    assert shapes["features.0.0.weight"][0] == stem and shapes["features.8.0.weight"][:2] == (features, channels[-1])
    for stage, (width, depth) in enumerate(zip(channels, layers, strict=True), start=1):
        blocks = [[s for key, s in shapes.items() if key.startswith(f"features.{stage}.{position}.")] for position in range(depth + 1)]
        assert [block[-1] for block in blocks[:-1]] == [(width,)] * depth and not blocks[-1]
    assert model.multiply_adds == pytest.approx(multiply_adds, rel=0.05)


def sized(network: Callable[..., nn.Value], **options: Any) -> int:
    return nn.model(image=(1, 3, 224, 224))(lambda image: network(image, **options)).parameter_count


def test_width_multipliers() -> None:
    """Sizes of torchvision's mobilenet_v2(width_mult=...), mnasnet0_5 and mnasnet1_3."""
    assert {width: sized(mobilenet, width=width) for width in (0.35, 0.5, 1.4)} == {0.35: 1_677_128, 0.5: 1_968_680, 1.4: 6_108_776}
    assert {width: sized(mnasnet, stages=B1, width=width) for width in (0.5, 1.3)} == {0.5: 2_218_512, 1.3: 6_282_256}


def bottleneck(shape: tuple[int, ...], channels: int, expanded: int, stride: int, **options: Any) -> nn.Model:
    return nn.model(x=shape)(lambda x: inverted_residual(x, channels, expanded, 5, stride, torchvision_names, **options))


def test_a_bottleneck_adds_what_it_got_where_the_shape_stays(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 6, 9, 7), np.float32)
    for channels, stride, added in ((6, 1, True), (8, 1, False), (6, 2, False)):
        model = bottleneck(x.shape, channels, 18, stride)
        silent = {name: np.zeros(channels) for name in ("block.2.1.weight", "block.2.1.bias")}
        (branch,) = evaluate(tw.load(model), [x])
        (rest,) = evaluate(tw.load(model.with_weights(silent)), [x])
        assert branch.std() > 0.1 and rest.shape == branch.shape
        assert np.array_equal(rest, x if added else np.zeros_like(branch))


def test_a_bottleneck_expands_only_what_gets_wider() -> None:
    kernels = [p.shape for p in bottleneck((1, 6, 9, 7), 4, 6, 1).declarations().values() if len(p.shape) == 4]
    assert kernels == [(6, 1, 5, 5), (4, 6, 1, 1)]
    kernels = [p.shape for p in bottleneck((1, 6, 9, 7), 4, 18, 1).declarations().values() if len(p.shape) == 4]
    assert kernels == [(18, 6, 1, 1), (18, 1, 5, 5), (4, 18, 1, 1)]


def test_excitation_scales_the_expanded_channels(rng: np.random.Generator) -> None:
    """A gate that closes leaves of the branch only what the batch norm of the projection adds."""
    x = rng.standard_normal((2, 6, 9, 7), np.float32)
    model = bottleneck(x.shape, 4, 18, 2, excitation=partial(squeeze_excitation, width=3))
    assert model.declarations()["block.2.fc1.weight"].shape == (3, 18, 1, 1)
    closed = {"block.2.fc2.weight": np.zeros((18, 3, 1, 1)), "block.2.fc2.bias": np.full(18, -1e4)}
    (found,) = evaluate(tw.load(model.with_weights(closed)), [x])
    weights = {name: array.astype(np.float64) for name, array in model.parameters().items()}
    scale = weights["block.3.1.weight"] / np.sqrt(weights["block.3.1.running_var"] + 1e-5)
    shift = weights["block.3.1.bias"] - scale * weights["block.3.1.running_mean"]
    np.testing.assert_allclose(found, np.broadcast_to(shift[:, None, None], found.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "groups"), [((2, 12, 5, 7), 3), ((1, 58, 9, 3), 2), ((3, 32, 4, 4), 2), ((2, 6, 11), 2)])
def test_channel_shuffle(shape: tuple[int, ...], groups: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal(shape, np.float32)
    expected = x[:, [k + g * (shape[1] // groups) for k in range(shape[1] // groups) for g in range(groups)]]
    shuffle = nn.model(x=shape)(lambda x: channel_shuffle(x, groups))
    back = nn.model(x=shape)(lambda x: channel_shuffle(channel_shuffle(x, groups), shape[1] // groups))
    for backend in ("reference", "cpu"):
        assert np.array_equal(tw.compile(shuffle, backend=backend)(x), expected)
        assert np.array_equal(tw.compile(back, backend=backend)(x), x)


def test_shuffled_channels_stay_in_blocks() -> None:
    """Only the logits change their layout: a shuffle picks lanes, and where it is cut in two, only those that are read."""
    plan = str(tw.compile(shufflenet_v2_x1_0, shapes={"image": (1, 3, 64, 64)}).plan)
    assert "0 numba steps, 0 numpy steps" in plan
    assert sum("channel_shuffle" in line and "[picklanes]" in line for line in plan.splitlines()) == 3 + 2 * (3 + 7 + 3)
    reordered = [line for line in plan.splitlines() if " reorder " in line]
    assert len(reordered) <= 1 and all("f32[1,1000]" in line for line in reordered)


@pytest.mark.torch
def test_mnasnet_a1_is_the_one_of_timm(rng: np.random.Generator) -> None:
    """timm has other names for the same parameters in the same order."""
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    network = timm.create_model("semnasnet_100").eval()
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    ours = mnasnet_a1.parameters()
    network.load_state_dict({theirs: torch.from_numpy(array) for theirs, array in zip(names, ours.values(), strict=True)}, strict=False)
    image = rng.standard_normal((2, 3, 65, 96), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    found = tw.compile(mnasnet_a1, shapes={"image": image.shape})(image)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
