"""Tilewright behind the interface of `onnx.backend.base`, as the operator tests of the onnx package call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType

import tilewright
from tilewright.engine.session import Session

FALLBACK = "falls back to NumPy: "


class Prepared(BackendRep):
    """A compiled model; after a run it can tell which steps of its plan fell back to NumPy."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def run(self, inputs: Sequence[np.ndarray], **_: Any) -> tuple[np.ndarray, ...]:
        """One array an output; inputs by position."""
        names = [spec.name for spec in self.session.source.inputs]
        return tuple(self.session.run(dict(zip(names, inputs, strict=True))).values())

    @property
    def fallbacks(self) -> list[str]:
        """One line a step of the plan used last that no kernel computes: the step, and why."""
        lines = self.session.plan.splitlines()
        return [line.removeprefix(FALLBACK) for line in lines if line.startswith(FALLBACK)]


class TilewrightBackend(Backend):
    """Runs a ModelProto; `backend="reference"` runs it by its NumPy meaning instead of on generated kernels."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", backend: str = "cpu", threads: int = 1, **_: Any) -> Prepared:
        """Compile. Raises ModelError or UnsupportedError."""
        return Prepared(tilewright.compile(model, backend=backend, threads=threads))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the processor."""
        return Device(device).type == DeviceType.CPU
