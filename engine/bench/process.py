"""The other end of a worker: starts it, asks, stops it between requests so that it is really idle, and ends it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Any

from .. import errors

WORKER = f"{__package__}.worker"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CAN_STOP = os.name == "posix"
PATIENCE = 5.0
"""Seconds that a worker has to end by itself."""


class EngineFailed(Exception):  # noqa: N818 - a result, not an error of ours
    """The engine, not this package, went wrong; the text is its own."""


class Worker:
    """One process. Between requests it is stopped: threads of a runtime that go on looking for work would slow the others down."""

    def __init__(self, threads: int) -> None:
        self.started = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        environment = os.environ | {"PYTHONPATH": paths} | dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
        )

    def ask(self, request: str, *arguments: Any) -> Any:
        """The answer of `worker.Server`. Raises EngineFailed, or the TilewrightError that the worker met."""
        self._signal("SIGCONT")
        assert self._process.stdin and self._process.stdout
        try:
            pickle.dump((request, arguments), self._process.stdin)
            self._process.stdin.flush()
            done, answer = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise EngineFailed(self._last_words()) from None
        self._signal("SIGSTOP")
        if done:
            return answer
        kind, text = answer
        raise getattr(errors, kind)(text) if kind else EngineFailed(text)

    def _signal(self, name: str) -> None:
        if CAN_STOP and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))

    def _last_words(self) -> str:
        code = self._process.wait(PATIENCE)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with code {code}" + (f": {lines[-1]}" if lines else "")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin and self._process.stdout
        self._signal("SIGCONT")
        try:
            self._process.stdin.close()
            self._process.wait(0 if kind else PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
