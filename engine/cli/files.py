"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from ..errors import MachineError, ModelError


def checked_target(text: str, suffix: str) -> pathlib.Path:
    """The path of a file to write, refused before the work is done rather than after it."""
    path = pathlib.Path(text)
    if path.suffix != suffix:
        raise ModelError(f"expected a file name that ends in {suffix}, got {text!r}")
    if not path.parent.is_dir():
        raise ModelError(f"cannot write {text!r}: there is no folder {str(path.parent)!r}")
    return path


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
        raise MachineError(f"cannot write {str(path)!r}: {error}") from error


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An .npz. (numpy.savez takes names as keyword arguments and so cannot hold an array called `file`.)"""

    def fill(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    write(path, fill)


def _umask() -> int:
    """What the process takes away from the permissions of new files; a temporary file starts out private."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
