"""How a command ends: which exit code, and what it says on stderr."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from .. import knobs
from ..errors import CompilerBug, MachineWarning, ModelWarning, TilewrightError
from .console import printable

DONE, DIFFERS, WRONG_INPUT, BUG, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 130, 141


def guarded(command: Callable[[], int]) -> int:
    """The command's exit code, or the one of what went wrong, explained on stderr."""
    try:
        with _warnings_in_one_line():
            code = command()
        sys.stdout.flush()
        return code
    except SystemExit as end:  # argparse after --help
        return end.code if isinstance(end.code, int) else DONE
    except BrokenPipeError:
        _silence_stdout()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except CompilerBug as error:
        return _report(error)
    except MemoryError as error:
        return _say(f"not enough memory: {error}", WRONG_INPUT)
    except (TilewrightError, OSError) as error:
        return _say(str(error), WRONG_INPUT)
    except Exception as error:
        return _report(error)


def _say(message: str, code: int) -> int:
    lines = map(printable, message.split("\n"))
    print("tilewright: " + "\n".join(lines), file=sys.stderr)
    return code


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """What the machine lacks is said as everything else is, without the line of our source that found out."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def showwarning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, MachineWarning | ModelWarning):
                _say(str(message), DONE)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = showwarning
        yield


def _silence_stdout() -> None:
    """Point stdout nowhere, so that the flush at exit does not meet the closed pipe again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: Exception) -> int:
    """A bug of ours: the traceback goes into a file, or to stderr at any debug level."""
    trace = "".join(traceback.format_exception(error))
    if _debugging():
        print(trace, file=sys.stderr)
    first_line = next(iter(str(error).split("\n")))
    what = f"a bug of Tilewright, sorry: {type(error).__name__}: {first_line}"
    return _say(f"{what}\nplease report it with {_written(trace)}; TILEWRIGHT_DEBUG=1 shows it here", BUG)


def _debugging() -> bool:
    try:
        return knobs.get("debug") >= 1
    except TilewrightError:
        return False


def _written(trace: str) -> str:
    """Where the traceback was saved; in a full or read-only temporary folder it is printed instead."""
    about = f"command: {sys.argv}\npython: {sys.version}\nmachine: {platform.platform()} {platform.machine()}\n\n"
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="tilewright-", suffix=".txt", delete=False) as file:
            file.write(about + trace)
        return file.name
    except OSError:
        print(trace, file=sys.stderr)
        return "the traceback above"
