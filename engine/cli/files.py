"""Where commands write what they are asked to write, and arrays as files."""

from __future__ import annotations

import pathlib
import zipfile
from collections.abc import Mapping
from typing import IO

import numpy as np

from ..errors import ModelError
from ..files import check_writable
from ..files import write as write


def checked_target(text: str, suffix: str) -> pathlib.Path:
    """The path of a file to write, refused before the work is done rather than after it."""
    path = pathlib.Path(text)
    if path.suffix != suffix:
        raise ModelError(f"expected a file name that ends in {suffix}, got {text!r}")
    if not path.parent.is_dir():
        raise ModelError(f"cannot write {text!r}: there is no folder {str(path.parent)!r}")
    check_writable(path)
    return path


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An .npz. (numpy.savez takes names as keyword arguments and so cannot hold an array called `file`.)"""

    def fill(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    write(path, fill)
