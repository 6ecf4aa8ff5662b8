"""Models that somebody else exported, kept beside the repository, against the outputs stored with them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilewright

MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"
QUICK = ("ImageClassifier_cifar.four", "mnist-cntk-7", "mtcnn_pnet.pair", "silero_vad_openvino_16k")
"""Beginnings of the names of the cases that NumPy computes in reasonable time."""


def cases() -> Iterator[Any]:
    """MODEL.CASE of every stored case; one that is skipped where the models are not there."""
    if not MODELS.exists():
        yield pytest.param("none", marks=pytest.mark.skip(f"the real models are not in {MODELS}"))
    for path in sorted((MODELS / "refs").glob("*.json")):
        if path.stem.startswith(QUICK):
            yield path.stem


def stored(case: str) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """The inputs of a case and what is known of its outputs."""
    spec = importlib.util.spec_from_file_location("refio", MODELS / "refio.py")
    assert spec is not None and spec.loader is not None
    refio = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(refio)
    feeds, expected, _ = refio.load(str(MODELS / "refs" / case))
    return feeds, expected


def errors(output: np.ndarray, expected: dict[str, Any]) -> tuple[float, float]:
    """The largest difference relative to the largest output, and the rms of the difference relative to that of the output."""
    assert (output.shape, str(output.dtype)) == (expected["shape"], expected["dtype"])
    known = np.asarray(expected["val"] if "val" in expected else expected["full"], np.float64).reshape(-1)
    difference = output.reshape(-1)[expected["idx"] if "idx" in expected else slice(None)].astype(np.float64) - known
    return float(np.abs(difference).max() / np.abs(known).max()), float(np.sqrt((difference**2).mean() / (known**2).mean()))


@pytest.mark.parametrize("backend", ["reference"])
@pytest.mark.parametrize("case", list(cases()))
def test_stored_outputs(case: str, backend: str) -> None:
    feeds, expected = stored(case)
    model = MODELS / f"{case.rpartition('.')[0]}.onnx"
    outputs = tilewright.compile(model, backend=backend, passes=[]).run(feeds)
    assert list(outputs) == [e["name"] for e in expected]
    largest, rms = (1e-2, 1e-2) if expected[0]["dtype"] == "float16" else (1e-4, 5e-5)
    for known in expected:
        maximum, mean = errors(outputs[known["name"]], known)
        assert maximum <= largest and mean <= rms, (known["name"], maximum, mean)
