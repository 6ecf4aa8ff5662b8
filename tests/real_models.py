"""The real exported models with stored onnxruntime answers that lie beside the repository in ../shared/models, where they are there."""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Any

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "shared" / "models"
MISSING = f"real models are not here: {FOLDER.parent.name}/{FOLDER.name} is expected beside the repository"
HALF_TOLERANCE, MAX_TOLERANCE, RMS_TOLERANCE = 1e-2, 1e-4, 5e-5


def cases() -> list[str]:
    """MODEL.CASE of every stored case; none where the folder is missing."""
    return sorted(path.stem for path in (FOLDER / "refs").glob("*.json")) if FOLDER.is_dir() else []


def model_path(case: str) -> pathlib.Path:
    """The model file of a case."""
    return FOLDER / f"{case.rpartition('.')[0]}.onnx"


def load(case: str) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Inputs by name, and what onnxruntime answered: name, shape, dtype, and all values or sampled ones."""
    spec = importlib.util.spec_from_file_location("refio", FOLDER / "refio.py")
    assert spec and spec.loader
    refio = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(refio)
    feeds, expected, _ = refio.load(str(FOLDER / "refs" / case))
    return feeds, expected


def check(outputs: dict[str, np.ndarray], expected: list[dict[str, Any]]) -> None:
    """Every output agrees by its maximum and by its root mean square."""
    for answer in expected:
        output = outputs[answer["name"]]
        assert output.shape == answer["shape"] and str(output.dtype) == answer["dtype"]
        flat = output.reshape(-1)[answer["idx"]] if "idx" in answer else output.reshape(-1)
        stored = np.asarray(answer["val"] if "idx" in answer else answer["full"]).reshape(-1).astype(np.float64)
        difference = flat.astype(np.float64) - stored
        half = output.dtype == np.float16
        worst, rms = np.abs(difference).max() / np.abs(stored).max(), np.sqrt(np.mean(difference**2) / np.mean(stored**2))
        assert worst <= (HALF_TOLERANCE if half else MAX_TOLERANCE), f"{answer['name']}: max error {worst:.1e}"
        assert rms <= (HALF_TOLERANCE if half else RMS_TOLERANCE), f"{answer['name']}: rms error {rms:.1e}"
