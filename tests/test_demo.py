"""The embedded LeNet-5: its held-out digits are those that training never sees, and it reads them; `tilewright demo` says so."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine import plugins
from tilewright.models import digits, lenet5, train_lenet5
from tilewright.models.demo import classify


def options(**changes) -> argparse.Namespace:
    return argparse.Namespace(**{"backend": "reference", "threads": None, "accuracy": "fast", "precision": None, "passes": None} | changes)


def test_the_demo_reads_the_digits(capsys):
    assert plugins.load("models", "demo")(options()) == 0
    text = capsys.readouterr().out
    assert "of 500 held-out digits" in text and "time per image:" in text
    before, after = text.split("== after the passes")
    assert before.count("tanh(") >= 4 and "average_pool" in after and "is " in text
    assert float(text.partition("accuracy: ")[2].partition("%")[0]) >= 97


def test_the_demo_fails_when_the_model_is_broken(capsys, tmp_path, monkeypatch):
    weights = lenet5.parameters()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(plugins.load("frontends", "onnx.export")(tw.load(lenet5.with_weights(weights))).SerializeToString())
    monkeypatch.setattr("tilewright.models.demo.MODEL_FILE", broken)
    assert plugins.load("models", "demo")(options()) == 1
    assert "accuracy:" in capsys.readouterr().out


def test_accuracy_in_onnxruntime_too():
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(digits.MODEL_FILE, providers=["CPUExecutionProvider"])
    held = digits.held_out()
    images = digits.to_images(held.counts)
    theirs = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    assert (theirs.argmax(axis=1) == held.labels).mean() >= 0.975
    ours, _ = classify(tw.compile(digits.MODEL_FILE, backend="reference"), images[:60])
    np.testing.assert_allclose(ours, theirs[:60], rtol=1e-3, atol=1e-5)


def test_the_file_holds_the_split_and_no_other_digits():
    held = digits.held_out()
    training, expected = digits.split(1797)
    assert np.array_equal(held.positions, expected) and len(held.labels) == len(held.counts) == 500
    assert not set(training) & set(held.positions) and len(training) + len(expected) == 1797
    assert digits.HELD_OUT_FILE.stat().st_size < 100_000 and digits.MODEL_FILE.stat().st_size < 300_000
    assert min(np.bincount(held.labels, minlength=10)) >= 40


def test_the_file_is_what_scikit_learn_ships():
    pytest.importorskip("sklearn")
    training, expected = train_lenet5.load_digits()
    held = digits.held_out()
    assert all(np.array_equal(a, b) for a, b in zip(held, expected, strict=True))
    seen = {counts.tobytes() for counts in training.counts}
    assert not any(counts.tobytes() in seen for counts in held.counts)


def test_images_keep_what_was_drawn():
    counts = np.random.default_rng(3).integers(0, 17, (2, 8, 8), dtype=np.uint8)
    images = digits.to_images(counts)
    assert images.shape == (2, 1, 28, 28) and images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    # The middle of source pixel (2, 4) lies at 8.25, 15.25: a weighted mean of the four around it is close to the count.
    around = images[:, 0, 8:10, 15:17]
    blend = np.einsum("nyx,y,x->n", around, [0.75, 0.25], [0.75, 0.25])
    np.testing.assert_allclose(blend, counts[:, 2, 4] / 16, atol=0.15)
    assert digits.as_text(counts[0])[0][::2] == "".join(" .:-=+*#@"[c // 2] for c in counts[0, 0])


def test_hand_written_gradients():
    random = np.random.default_rng(0)
    weights = {name: w.astype(float) for name, w in lenet5.parameters().items()}
    images, labels = random.random((3, 1, 28, 28)), np.array([1, 5, 9])
    gradients = train_lenet5.gradient(weights, images, labels)

    def loss(name: str, place: tuple[int, ...], step: float) -> float:
        moved = weights[name].copy()
        moved[place] += step
        logits, _ = train_lenet5.forward({**weights, name: moved}, images, {})
        return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(3), labels]).mean())

    assert gradients.keys() == weights.keys()
    for name, gradient in gradients.items():
        place = tuple(random.integers(gradient.shape))
        assert gradient[place] == pytest.approx((loss(name, place, 1e-5) - loss(name, place, -1e-5)) / 2e-5, rel=1e-4, abs=1e-7), name


def test_training_follows_the_model_and_learns():
    pytest.importorskip("sklearn")
    training, _ = train_lenet5.load_digits()
    few = training.at(np.arange(300))
    weights = train_lenet5.train(few, epochs=8)
    again = train_lenet5.train(few, epochs=8)
    assert all(np.array_equal(weights[name], again[name]) for name in weights)
    images = digits.to_images(training.at(np.arange(300, 400)).counts)
    logits, _ = train_lenet5.forward(weights, images, {})
    ours = tw.compile(lenet5.with_weights(weights), backend="reference")(images)
    np.testing.assert_array_equal(ours.argmax(axis=1), logits.argmax(axis=1))
    assert (logits.argmax(axis=1) == training.labels[300:400]).mean() > 0.3
