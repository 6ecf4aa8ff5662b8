"""Networks over time, over graphs and over turns: symmetries, formulas, spectra, sizes that change from run to run."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.ops import Concat, Slice, Transpose
from tilewright.frontends.dsl import Value, batch_norm, model, relu, reshape
from tilewright.models.c3d import c3d
from tilewright.models.gcn import gcn, normalised_edges
from tilewright.models.group_equivariant import p4_cnn, p4_conv
from tilewright.models.keyword_cnn import keyword_cnn, keyword_cnn_sound
from tilewright.models.spectrogram import FLOOR, log_mel_spectrogram, mel_bands
from tilewright.models.text_cnn import text_cnn
from tilewright.models.waveform import waveform_m5

random = np.random.default_rng(21)


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Within a part of the largest number."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@model(image=("batch=2", 3, "height=11", "width=14"))
def turning_maps(image: Value) -> dict[str, Value]:
    lifted = relu(batch_norm(p4_conv(reshape(image, (image.shape[0], 3, 1, *image.shape[2:])), 5, 3, name="lift")))
    return {"lifted": lifted, "maps": p4_conv(lifted, 4, 4, name="conv")}


def turned(x: np.ndarray, turns: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(x, turns, (-2, -1)))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_maps_turn_with_the_image_and_orientations_move_on(turns: int) -> None:
    image, session = normal(2, 3, 11, 14), tw.compile(turning_maps)
    straight, after = session.run({"image": image}), session.run({"image": turned(image, turns)})
    for name, maps in straight.items():
        close(after[name], np.roll(turned(maps, turns), turns, axis=2))
        assert not np.allclose(after[name], turned(maps, turns), atol=0.1 * np.abs(maps).max())


def test_group_convolution_by_its_definition() -> None:
    """Each orientation of the result is an ordinary convolution with the filter turned as far, its orientations moved as far."""
    image, weights = normal(1, 3, 7, 8), turning_maps.parameters()
    answers = tw.compile(turning_maps).run({"image": image})
    lifted, filters = answers["lifted"], weights["conv.weight"]
    seen = np.lib.stride_tricks.sliding_window_view(lifted, (4, 4), (3, 4))
    for turns in range(4):
        rotated = np.roll(np.rot90(filters, turns, (3, 4)), turns, axis=2)
        expected = np.einsum("ncohwij,kcoij->nkhw", seen, rotated) + weights["conv.bias"].reshape(-1, 1, 1)
        close(answers["maps"][:, :, turns], expected)


def test_logits_of_p4_cnn_know_no_quarter_turns() -> None:
    image, session = normal(3, 1, 28, 28), tw.compile(p4_cnn)
    logits = session(image)
    for turns in (1, 2, 3):
        close(session(turned(image, turns)), logits)
    mirrored = session(np.ascontiguousarray(image[..., ::-1]))
    assert np.abs(mirrored - logits).max() > 1e-2 * np.abs(logits).max(), "mirror images are no turns"


def test_filter_banks_are_constants_of_the_compiled_network() -> None:
    assert list(tw.load(p4_cnn).find(Transpose))
    for kind in (Transpose, Slice, Concat):
        assert not list(tw.compile(p4_cnn).graph.find(kind))


def dense(links: np.ndarray, nodes: int) -> np.ndarray:
    """D^-1/2 (A + I) D^-1/2, the definition."""
    adjacency = np.eye(nodes)
    adjacency[links[0], links[1]] = adjacency[links[1], links[0]] = 1
    degrees = adjacency.sum(1)
    return adjacency / np.sqrt(degrees[:, None] * degrees)


@pytest.mark.parametrize(("nodes", "links"), [(1, 0), (7, 3), (30, 55), (9, 200)])
def test_normalised_edges(nodes: int, links: int) -> None:
    pairs = random.integers(0, nodes, (2, links))
    edges, weights = normalised_edges(pairs, nodes)
    assert edges.dtype == np.int64 and weights.dtype == np.float32 and np.unique(edges, axis=1).shape == edges.shape
    matrix = np.zeros((nodes, nodes))
    matrix[edges[0], edges[1]] = weights
    np.testing.assert_allclose(matrix, dense(pairs, nodes), rtol=1e-6)


def test_graph_convolutions_are_products_with_the_sparse_matrix() -> None:
    """One session takes graphs of any number of nodes and edges."""
    session = tw.compile(gcn, shapes={"features": (4, 1433), "edges": (2, 9), "weights": (9,)})
    assert " 0 numpy steps" in session.plan
    first, second = (w.astype(float).T for w in gcn.parameters().values())
    for nodes, links in ((5, 7), (33, 80)):
        pairs, features = random.integers(0, nodes, (2, links)), normal(nodes, 1433)
        edges, weights = normalised_edges(pairs, nodes)
        scores = dense(pairs, nodes) @ np.maximum(dense(pairs, nodes) @ (features @ first), 0) @ second
        expected = np.exp(scores - scores.max(1, keepdims=True))
        answer = session.run({"features": features, "edges": edges, "weights": weights})["output"]
        close(answer, expected / expected.sum(1, keepdims=True))


def test_messages_go_from_source_to_target() -> None:
    """One edge from the first to the second of two nodes: only the second hears of the other."""
    features, edges = normal(2, 1433), np.array([[0, 0, 1], [1, 0, 1]])
    session = tw.compile(gcn, shapes={"features": (2, 1433), "edges": (2, 3), "weights": (3,)})
    weights = np.ones(3, np.float32)
    before = session(features, edges, weights)
    features[1] += 1
    close(session(features, edges, weights)[0], before[0])
    features[0] += 1
    assert not np.allclose(session(features, edges, weights)[1], before[1], rtol=1e-2)


@model(sound=("batch=1", 1, "samples=5360"))
def heard(sound: Value) -> Value:
    return log_mel_spectrogram(sound)


def test_spectrogram_is_that_of_a_fast_fourier_transform() -> None:
    sound = normal(2, 1, 3333)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([sound[:, 0, at : at + 400] * hann for at in range(0, 3333 - 399, 160)], axis=1)
    expected = np.log(np.abs(np.fft.rfft(frames, 512)) @ mel_bands(40, 257, 8000).T + FLOOR)
    close(tw.compile(heard)(sound)[:, 0], expected)


@pytest.mark.parametrize("hertz", [120, 440, 1000, 3100, 7000])
def test_a_tone_is_loudest_in_its_band(hertz: float) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(5360) / 16_000).astype(np.float32)
    spectrum = tw.compile(heard)(tone[None, None])
    middles = np.arange(1, 41) * 1127 * np.log1p(8000 / 700) / 41
    nearest = np.abs(middles - 1127 * np.log1p(hertz / 700)).argmin()
    assert set(spectrum[0, 0].argmax(axis=1)) <= {nearest - 1, nearest, nearest + 1}


def test_bands_overlap_by_half() -> None:
    """Between the middles of the first and the last band every frequency counts once, shared by two neighbours."""
    bands = mel_bands(10, 2049, 4000)
    first, last = bands[0].argmax() + 1, bands[-1].argmax()
    np.testing.assert_allclose(bands[:, first:last].sum(0), 1, rtol=1e-5)
    assert (bands > 0).sum(0).max() == 2 and np.all(np.diff(bands.argmax(1)) > 0)


def test_keywords_in_sound_are_keywords_in_its_spectrogram() -> None:
    sound = normal(3, 1, 5360)
    features = tw.compile(heard)(sound)
    close(tw.compile(keyword_cnn_sound)(sound), tw.compile(keyword_cnn)(features), 1e-4)


def test_text_cnn_by_its_formula() -> None:
    """Windows of words, the largest over time, a linear layer; sentences of any length from five words on."""
    session, weights = tw.compile(text_cnn), text_cnn.parameters()
    table = weights["embedding1.weight"]
    for length in (5, 17):
        words = random.integers(0, len(table), (2, length))
        maps = []
        for layer, width in enumerate((3, 4, 5), start=1):
            seen = np.lib.stride_tricks.sliding_window_view(table[words], width, axis=1)
            scores = np.einsum("ntcw,kcw->nkt", seen, weights[f"conv{layer}.weight"]) + weights[f"conv{layer}.bias"][:, None]
            maps.append(np.maximum(scores, 0).max(axis=2))
        close(session(words), np.concatenate(maps, axis=1) @ weights["linear1.weight"].T + weights["linear1.bias"])
    with pytest.raises(tw.ModelError, match="kernel is larger"):
        session(words[:, :4])


@pytest.mark.torch
def test_waveform_m5_as_in_torch() -> None:
    """The paper's table 1 once more; 4003 samples leave an odd number of positions at every stage."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    weights = {name: torch.from_numpy(array) for name, array in waveform_m5.parameters().items()}
    sound = normal(2, 1, 4003)
    x = functional.pad(torch.from_numpy(sound), (38, 39))
    for layer, (stride, positions) in enumerate(((4, 1001), (1, 251), (1, 63), (1, 16)), start=1):
        x = functional.conv1d(x, weights[f"conv{layer}.weight"], stride=stride, padding=0 if layer == 1 else 1)
        assert x.shape[2] == positions
        mean, variance, scale, shift = (weights[f"batch_norm{layer}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        x = torch.relu(functional.batch_norm(x, mean, variance, scale, shift))
        missing = -positions % 4
        x = functional.max_pool1d(functional.pad(x, (missing // 2, missing - missing // 2), value=-np.inf), 4)
    expected = functional.linear(x.mean(2), weights["linear1.weight"], weights["linear1.bias"]).numpy()
    close(tw.compile(waveform_m5)(sound), expected)


@pytest.mark.torch
def test_c3d_as_in_torch() -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    small = c3d.with_inputs(video=("batch=1", 3, 7, 33, 20))
    weights = {name: torch.from_numpy(array) for name, array in small.parameters().items()}
    clip = normal(1, 3, 7, 33, 20)
    x = torch.from_numpy(clip)
    for stage, letters in enumerate(("a", "a", "ab", "ab", "ab"), start=1):
        for layer in (f"conv{stage}{letter}" for letter in letters):
            x = torch.relu(functional.conv3d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"], padding=1))
        x = functional.max_pool3d(x, (1, 2, 2) if stage == 1 else 2, ceil_mode=True)
    x = x.flatten(1)
    for layer in ("fc6", "fc7", "fc8"):
        x = functional.linear(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
        x = x if layer == "fc8" else torch.relu(x)
    close(tw.compile(small)(clip), x.numpy())
