"""TensorProto → NumPy: element types, and data kept in files beside the model."""

from __future__ import annotations

import dataclasses as dc
import math
import pathlib
from typing import BinaryIO

import numpy as np
from onnx import TensorProto, numpy_helper

from ...engine.errors import ModelError, UnsupportedError

DTYPES: dict[int, np.dtype] = {
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.INT8: np.dtype(np.int8),
    TensorProto.INT16: np.dtype(np.int16),
    TensorProto.INT32: np.dtype(np.int32),
    TensorProto.INT64: np.dtype(np.int64),
    TensorProto.UINT8: np.dtype(np.uint8),
    TensorProto.UINT16: np.dtype(np.uint16),
    TensorProto.UINT32: np.dtype(np.uint32),
    TensorProto.UINT64: np.dtype(np.uint64),
    TensorProto.BOOL: np.dtype(np.bool_),
}


@dc.dataclass(frozen=True)
class Files:
    """Where data may lie that is not in the messages."""

    folder: pathlib.Path | None = None
    """The model's; None: not known."""
    own: BinaryIO | None = None
    """The model's file, for what its skeleton lacks."""


NOWHERE = Files()


def dtype_of(code: int, what: str) -> np.dtype:
    """The NumPy dtype behind an ONNX element type. Raises UnsupportedError naming `what` for strings, bfloat16 and the like."""
    if code in DTYPES:
        return DTYPES[code]
    name = TensorProto.DataType.Name(code).lower() if code in TensorProto.DataType.values() else code
    raise UnsupportedError(f"{what} has elements of type {name}")


def code_of(dtype: np.dtype) -> int:
    """The ONNX element type of a NumPy dtype."""
    return next(code for code, known in DTYPES.items() if known == dtype)


def read_tensor(tensor: TensorProto, files: Files, name: str = "") -> np.ndarray:
    """The array of a tensor; external data is read inside the model's folder only.

    Raises ModelError when the data is missing, damaged or outside the folder, UnsupportedError for element types we do not have.
    """
    what = f"tensor {tensor.name or name!r}"
    dtype, shape = dtype_of(tensor.data_type, what), tuple(tensor.dims)
    if min(shape, default=0) < 0:
        raise ModelError(f"{what} has the shape {shape}; the file is damaged")
    if tensor.data_location == TensorProto.EXTERNAL:
        return _external(tensor, what, dtype, shape, files)
    if tensor.HasField("raw_data"):
        return _from_bytes(tensor.raw_data, dtype, shape, what)
    try:
        return np.ascontiguousarray(numpy_helper.to_array(tensor)).reshape(shape)
    except ValueError as error:
        raise ModelError(f"{what} does not hold the {math.prod(shape)} elements of its shape {shape}: {error}") from error


def _from_bytes(data: bytes, dtype: np.dtype, shape: tuple[int, ...], what: str) -> np.ndarray:
    _check_length(len(data), dtype, shape, what)
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _check_length(length: int, dtype: np.dtype, shape: tuple[int, ...], what: str) -> None:
    if length != math.prod(shape) * dtype.itemsize:
        raise ModelError(f"{what}: expected {math.prod(shape) * dtype.itemsize} bytes for {dtype} {shape}, got {length}")


def _external(tensor: TensorProto, what: str, dtype: np.dtype, shape: tuple[int, ...], files: Files) -> np.ndarray:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    expected, location = math.prod(shape) * dtype.itemsize, entries.get("location", "")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", expected))
    except ValueError:
        raise ModelError(f"{what}: offset and length of its external data are not numbers: {entries}") from None
    if files.own is not None and "location" not in entries:
        _check_length(length, dtype, shape, what)
        return _read(files.own, offset, dtype, shape, what)
    if files.folder is None:
        raise ModelError(f"{what} keeps its data in the file {location!r}; give the model as a path, so that its folder is known")
    path = _inside(files.folder, location, what)
    if offset < 0 or length != expected:
        raise ModelError(f"{what}: expected {expected} bytes of external data, the model says {length} from {offset}")
    try:
        with path.open("rb") as file:
            return _read(file, offset, dtype, shape, what)
    except (OSError, OverflowError) as error:  # the latter for an offset that is no file position
        raise ModelError(f"{what} keeps its data in {str(path)!r}: {getattr(error, 'strerror', None) or error}") from error


def _read(file: BinaryIO, offset: int, dtype: np.dtype, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The array that starts at an offset of a file."""
    size = math.prod(shape) * dtype.itemsize
    if offset < 0 or file.seek(0, 2) < offset + size:  # before memory is asked for that a damaged file claims to need
        raise ModelError(f"{what}: expected {size} bytes for {dtype} {shape} from byte {offset} on, which the file does not have")
    array = np.empty(shape, dtype.newbyteorder("<"))
    file.seek(offset)
    _check_length(file.readinto(array.reshape(-1).view(np.uint8)), dtype, shape, what)  # type: ignore[attr-defined]
    return array.astype(dtype, copy=False)


def _inside(folder: pathlib.Path, location: str, what: str) -> pathlib.Path:
    """The file at `location` if it lies in the folder, symbolic links followed; a model must not read other files of its user."""
    root = folder.resolve()
    try:
        path = (root / location).resolve()
    except (OSError, ValueError, RuntimeError):  # a loop of links, a NUL in the name
        path = root
    relative = pathlib.PurePosixPath(location), pathlib.PureWindowsPath(location)
    leaves = any(p.is_absolute() or p.drive or ".." in p.parts for p in relative)
    if leaves or path == root or not path.is_relative_to(root):
        raise ModelError(f"{what} keeps its data at {location!r}, which is not a file inside the model's folder; this is refused")
    return path
