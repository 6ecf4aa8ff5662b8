"""Networks that make or label pixels, and cells: what makes each of them what it is, against independent formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.evaluate import evaluate
from tilewright.engine.ops import Concat
from tilewright.frontends.dsl import Model, model
from tilewright.models import (
    conv_lstm_cell,
    dcgan_discriminator,
    dcgan_generator,
    deepface,
    unet,
    vae,
    vae_decoder,
    vae_encoder,
)
from tilewright.models.conv_lstm import forecast
from tilewright.models.unet import middle, resized, transposed, u_shape

random = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def answers(of: Model, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """The outputs by the meaning of the operators."""
    return tuple(evaluate(tw.load(of, {spec.name: a.shape for spec, a in zip(of.inputs, arrays, strict=True)}), arrays))


def test_unet_sizes_are_those_of_figure_1() -> None:
    graph = tw.load(unet)
    assert graph.outputs[0].type.shape == (1, 2, 388, 388)
    joined = [node.type.shape[1:] for node in graph.find(Concat)]
    assert joined == [(1024, 56, 56), (512, 104, 104), (256, 200, 200), (128, 392, 392)]
    padded = _model(lambda image: u_shape(image, resized, 1, widths=(4, 5, 6, 7, 8)), image=(1, 1, 48, 80))
    assert tw.load(padded).outputs[0].type.shape == (1, 2, 48, 80)


def test_valid_unet_labels_a_tile_as_it_labels_the_whole_picture() -> None:
    """The overlap-tile strategy of figure 2: no border is seen. 16 pixels are one at the lowest level."""
    picture = normal(1, 1, 188, 204)
    thin = _model(lambda image: u_shape(image, transposed, 0, widths=(4, 5, 6, 7, 8)), image=("batch=1", 1, "height=188", "width=204"))
    (whole,) = answers(thin, picture)
    session = tw.compile(thin, shapes={"image": (1, 1, 188, 188)})
    assert " 0 numpy steps" in session.plan and whole.shape == (1, 2, 4, 20)
    np.testing.assert_allclose(session(picture[..., 16:]), whole[..., 16:], rtol=1e-4, atol=1e-4)


def test_the_middle_is_cut_out() -> None:
    x = normal(1, 2, 9, 7)
    (found,) = answers(_model(middle, x=x.shape, like=(1, 5, 4, 5)), x, normal(1, 5, 4, 5))
    np.testing.assert_array_equal(found, x[:, :, 2:6, 1:6])


def test_what_unet_enlarges_by() -> None:
    x = normal(2, 6, 5, 3)
    enlarge = _model(lambda x: transposed(x, 4), x=x.shape)
    weight, bias = (enlarge.parameters()[f"enlarge.{n}"].astype(np.float64) for n in ("weight", "bias"))
    expected = np.einsum("nchw,ckrs->nkhrws", x, weight).reshape(2, 4, 10, 6) + bias[:, None, None]
    np.testing.assert_allclose(tw.compile(enlarge)(x), expected, rtol=1e-4, atol=1e-4)
    enlarge = _model(lambda x: resized(x, 4), x=x.shape)
    weight, bias = (enlarge.parameters()[f"enlarge.{n}"].astype(np.float64) for n in ("weight", "bias"))
    large = np.pad(x.repeat(2, 2).repeat(2, 3), ((0, 0), (0, 0), (0, 1), (0, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(large, (2, 2), axis=(2, 3))
    expected = np.einsum("nchwrs,kcrs->nkhw", windows, weight) + bias[:, None, None]
    np.testing.assert_allclose(tw.compile(enlarge)(x), expected, rtol=1e-4, atol=1e-4)


def test_vae_samples_around_the_mean() -> None:
    image, noise = random.random((3, 1, 28, 28), np.float32), normal(3, 20)
    weights = vae.parameters()
    encoder = vae_encoder.with_weights(_part(weights, "encoder."))
    decoder = vae_decoder.with_weights(_part(weights, "decoder."))
    code = tw.compile(encoder).run({"image": image})
    whole = tw.compile(vae).run({"image": image, "noise": noise})
    latent = code["mean"] + np.exp(code["log_variance"] / 2) * noise
    np.testing.assert_allclose(whole["reconstruction"], tw.compile(decoder)(latent), rtol=1e-3, atol=1e-4)
    for name in ("mean", "log_variance"):
        np.testing.assert_allclose(whole[name], code[name], rtol=1e-4, atol=1e-4)


def test_conv_lstm_cell_by_the_equations() -> None:
    x, h, c = normal(2, 16, 5, 4), normal(2, 128, 5, 4), normal(2, 128, 5, 4)
    weights = {name: array.astype(np.float64) for name, array in conv_lstm_cell.parameters().items()}
    session = tw.compile(conv_lstm_cell)
    found = session.run({"x": x, "h": h, "c": c})
    next_h, next_c = _step(weights, x, h, c)
    np.testing.assert_allclose(found["next_c"], next_c, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["next_h"], next_h, rtol=1e-4, atol=1e-5)


def test_conv_lstm_forecast_is_the_cell_again_and_again() -> None:
    frames = random.random((2, 3, 1, 12, 8), np.float32)
    network = _model(lambda frames: forecast(frames, (6, 5)), frames=frames.shape)
    weights = {name: array.astype(np.float64) for name, array in network.parameters().items()}
    states = [(np.zeros((2, n, 3, 2)), np.zeros((2, n, 3, 2))) for n in (6, 5)]
    patches = np.stack([frames[:, :, 0, r::4, s::4] for r in range(4) for s in range(4)], axis=2)
    for step in range(3):
        states = _advance(weights, "encoder", patches[:, step], states)
    expected = np.zeros(frames.shape)
    for step in range(3):
        states = _advance(weights, "forecaster", None, states)
        said = np.concatenate([h for h, _ in states], axis=1)
        scores = np.einsum("nchw,kc->nkhw", said, weights["frame.weight"][..., 0, 0]) + weights["frame.bias"][:, None, None]
        for k in range(16):
            expected[:, step, 0, k // 4 :: 4, k % 4 :: 4] = _sigmoid(scores[:, k])
    np.testing.assert_allclose(tw.compile(network)(frames), expected, rtol=1e-4, atol=1e-5)


def test_deepface_keeps_the_sizes_of_the_paper() -> None:
    shapes = {name: p.shape for name, p in deepface.declarations().items()}
    assert shapes["L4.weight"] == (55, 55, 16 * 81, 16) and shapes["L5.weight"][:2] == (25, 25) and shapes["L6.bias"] == (16, 21, 21)


@pytest.mark.torch
def test_dcgan_generator_is_that_of_pytorch() -> None:
    nn = pytest.importorskip("torch").nn
    layers = [nn.ConvTranspose2d(100, 512, 4, 1, 0, bias=False), nn.BatchNorm2d(512), nn.ReLU()]
    for width in (256, 128, 64):
        layers += [nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh()]
    _same_as_torch(dcgan_generator, layers, normal(2, 100, 1, 1))


@pytest.mark.torch
def test_dcgan_discriminator_is_that_of_pytorch() -> None:
    nn = pytest.importorskip("torch").nn
    layers = [nn.Conv2d(3, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for width in (128, 256, 512):
        layers += [nn.Conv2d(width // 2, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(512, 1, 4, 1, 0, bias=False), nn.Sigmoid(), nn.Flatten()]
    _same_as_torch(dcgan_discriminator, layers, normal(2, 3, 64, 64))


def _same_as_torch(ours: Model, layers: list[Any], x: np.ndarray) -> None:
    """Their weights by their names, and the same answers."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    theirs = torch.nn.Module()
    theirs.main = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for array in theirs.parameters():
            array.normal_(float(array.ndim == 1), 0.02)
        theirs.main.train()(torch.from_numpy(np.concatenate([x] * 8) + normal(16, *x.shape[1:])))
        expected = theirs.main.eval()(torch.from_numpy(x)).numpy()
    state = {name: t.numpy() for name, t in theirs.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert set(state) == set(ours.declarations())
    found = tw.compile(ours.with_weights(state), shapes={ours.inputs[0].name: x.shape})(x)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max() and np.ptp(expected) > 1e-3


def test_deepface_on_small_faces() -> None:
    """The same layers where the last local one has a single position: cpu, onnxruntime and reference agree."""
    small = deepface.with_inputs(image=(2, 3, 72, 72))
    image = normal(2, 3, 72, 72)
    (expected,) = answers(small, image)
    session = tw.compile(small)
    assert " 0 numpy steps" in session.plan
    assert np.abs(session(image) - expected).max() <= 1e-4 * np.abs(expected).max()
    pytest.importorskip("onnxruntime")
    assert np.abs(tw.compile(small, backend="onnxruntime")(image) - expected).max() <= 1e-4 * np.abs(expected).max()


def _model(function: Callable[..., Any], **shapes: tuple[Any, ...]) -> Model:
    return model(**shapes)(function)


def _part(weights: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _same(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2))), (5, 5), axis=(2, 3))
    return np.einsum("nchwrs,kcrs->nkhw", windows, weight, optimize=True)


def _step(weights: Mapping[str, np.ndarray], x: np.ndarray | None, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gates = _same(h, weights["hidden_weight"]) + weights["bias"][:, None, None]
    if x is not None:
        gates = gates + _same(x, weights["input_weight"])
    i, f, new, o = np.split(gates, 4, axis=1)
    of_i, of_f, of_o = weights["peepholes"]
    following = _sigmoid(f + of_f * c) * c + _sigmoid(i + of_i * c) * np.tanh(new)
    return _sigmoid(o + of_o * following) * np.tanh(following), following


def _advance(weights: Mapping[str, np.ndarray], which: str, x: np.ndarray | None, states: list[Any]) -> list[Any]:
    following = []
    for layer, (h, c) in enumerate(states):
        following.append(_step(_part(weights, f"{which}.{layer}."), x, h, c))
        x = following[-1][0]
    return following
