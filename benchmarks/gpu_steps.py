"""One step of benchmarks/gpu.py as a process: `python gpu_steps.py NAME --out FOLDER --device cuda --seconds 60 [--quick]`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from gpu_log import LOST, Log

DEVICE = "the device"
"""The check that it can be used."""
WHERE = {
    "versions": "gpu_ceilings",
    "wrappers": "gpu_checks",
    "cases": "gpu_checks",
    "zoo": "gpu_checks",
    "tune": "gpu_networks",
    "networks": "gpu_networks",
    "compiled": "gpu_networks",
}
"""The module of each step; it has a function of the step's name."""


class Task:
    """What a step is told, and where it says what it found."""

    def __init__(self, step: str, out: str, device: str, seconds: float, quick: bool, begun: int = 0) -> None:
        """`begun`: how many turns processes before this one have begun."""
        self.step, self.log, self.device, self.quick, self.begun = step, Log(out), device, quick, begun
        self._end = time.monotonic() + seconds
        self.failures = 0

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    @property
    def backend(self) -> str:
        """Its name as a plug-in."""
        return "cuda" if self.device == "cuda" else "cuda_emulated"

    def find_device(self) -> Any:
        """The GPU, or the one that is not there. Raises MachineError saying what is missing."""
        from tilewright.engine import plugins
        from tilewright.engine.backend import Options

        return plugins.load("backends", self.backend)(Options()).device

    def add(self, kind: str, **values: Any) -> None:
        """Keep a record."""
        self.log.add(self.step, kind, **values)

    def skip(self, what: str) -> None:
        """Say what is not done, and why."""
        print(f"skipped: {what}")
        self.add("skipped", what=what)

    def check(self, name: str, why: str = "") -> None:
        """A check that passed, or failed for a reason."""
        self.failures += bool(why)
        self.add("check", name=name, passed=not why, why=why)
        if why:
            print(f"FAILED {name}: {why}")

    @contextlib.contextmanager
    def turn(self, what: str, seconds: float) -> Iterator[None]:
        """A part of the step. When it loses the GPU, or takes longer, this process ends, and another one goes on with the next turn."""
        self.add("begun", what=what)
        failures, watch = self.failures, threading.Timer(seconds, os._exit, [LOST])
        watch.daemon = True
        watch.start()
        try:
            yield
            if self.failures > failures and self._is_lost():
                os._exit(LOST)  # nothing that is done at an exit works any more, either
        finally:
            watch.cancel()

    def _is_lost(self) -> bool:
        """After some errors nothing works in a process any more."""
        try:
            self.find_device().stream().synchronise()
        except Exception as error:
            print(f"the GPU is lost: {error}")
            return True
        return False

    def attempt(self, name: str, do: Callable[[], Any]) -> Any:
        """The result; None and a failed check where it raises, so that the next one has its turn."""
        try:
            return do()
        except Exception as error:
            self.check(name, f"{type(error).__name__}: {str(error)[:300]}")
            return None


def main() -> int:
    """0, or 1 when a check has failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=WHERE)
    parser.add_argument("--out", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--begun", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    task = Task(options.step, options.out, options.device, options.seconds, options.quick, options.begun)
    if options.step == "versions" or task.attempt(DEVICE, task.find_device) is not None:
        getattr(importlib.import_module(WHERE[options.step]), options.step)(task)
    return 1 if task.failures else 0


if __name__ == "__main__":
    sys.exit(main())
