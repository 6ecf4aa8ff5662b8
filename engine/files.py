"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import IO, Any

from .errors import MachineError


def write(path: pathlib.Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Let `fill` write a file beside the path, and give it that name once it is complete. Raises MachineError."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w+b") as file:
                fill(file)
                file.flush()
                os.fsync(descriptor)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise _not_written(path, error) from error


def check_writable(path: pathlib.Path) -> None:
    """Raise the MachineError that `write` would end in, as far as it can be known before there is anything to write."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: pathlib.Path, error: OSError) -> MachineError:
    """In words that name the file that the user asked for, not the temporary one."""
    return MachineError(f"cannot write {str(path)!r}: {error.strerror or error}")


def _umask() -> int:
    """What the process takes away from the permissions of new files; a temporary file starts out private."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
