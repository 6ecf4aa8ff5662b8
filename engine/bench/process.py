"""The other end of a worker: starts it, asks, stops it between requests so that it is really idle, and ends it."""

from __future__ import annotations

import os
import pathlib
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

    def __init__(self, threads: int, python: str | None = None) -> None:
        """python: the interpreter, by default this one with all that it can import; another one gets this package besides its own."""
        self.started = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        self._bridge = tempfile.TemporaryDirectory()
        paths = self._bridged() if python else [path or os.getcwd() for path in sys.path]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | dict.fromkeys(THREAD_VARIABLES, str(threads))
        command, pipe = [python or sys.executable, "-m", WORKER], subprocess.PIPE
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, env=environment)
        except OSError as error:
            raise errors.ModelError(f"expected a Python interpreter, got {python!r}: {error.strerror}") from error

    def _bridged(self) -> list[str]:
        """A folder with a link to this package and nothing else, and what PYTHONPATH said before.

        Whatever else is installed beside this package was made for this interpreter.
        """
        package = pathlib.Path(__file__).parents[2].absolute()
        pathlib.Path(self._bridge.name, package.name).symlink_to(package, target_is_directory=True)
        return [self._bridge.name, *filter(None, [os.environ.get("PYTHONPATH")])]

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
        self._bridge.cleanup()
