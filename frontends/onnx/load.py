"""A path, bytes or ModelProto → a ModelProto that is whole, or one clear error."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import onnx
from google.protobuf.message import DecodeError

from ...engine.errors import ModelError, UnsupportedError
from .skeleton import skeleton
from .tensors import NOWHERE, Files

OLDEST_OPSET = 7
DEFAULT_DOMAINS = ("", "ai.onnx")


@contextlib.contextmanager
def load_proto(model: Any) -> Iterator[tuple[onnx.ModelProto, Files]]:
    """The model, and where the data of its tensors may lie beside it.

    Raises ModelError for a missing, empty or damaged file, UnsupportedError for an opset that is too old or too new.
    """
    if isinstance(model, onnx.ModelProto):
        yield check(model, "the ModelProto"), NOWHERE
    elif isinstance(model, bytes | bytearray | memoryview):
        yield parse(bytes(model), f"the {len(model)} bytes given"), NOWHERE
    elif isinstance(model, str | os.PathLike):
        path = pathlib.Path(model)
        with opened(path) as file:
            yield parse(read(file, path), str(path)), Files(path.absolute().parent, file)
    else:
        raise ModelError(f"expected a path, bytes or an onnx.ModelProto, got {type(model).__name__}")


def opened(path: pathlib.Path) -> BinaryIO:
    """The file, or ModelError."""
    if path.is_dir():
        raise ModelError(f"{path} is a folder; expected an ONNX file")
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def read(file: BinaryIO, path: pathlib.Path) -> bytes:
    """The skeleton of the model, or the whole file where there is none."""
    try:
        if file.seekable():
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if (found := skeleton(file, size)) is not None:
                return found
            file.seek(0)
        return file.read()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def parse(data: bytes, what: str) -> onnx.ModelProto:
    """The model in the bytes, or ModelError naming `what`."""
    if not data:
        raise ModelError(f"{what}: the file is empty; expected an ONNX model")
    if data.startswith(b"version https://git-lfs"):
        raise ModelError(f"{what} is a Git LFS pointer, not the model itself; fetch it with `git lfs pull`")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise ModelError(f"{what} is not an ONNX model, or it is damaged or cut off: its {len(data)} bytes do not parse") from None
    return check(model, what)


def check(model: onnx.ModelProto, what: str) -> onnx.ModelProto:
    """The model itself if it has what every model must have; bytes of another kind parse as protobuf surprisingly often."""
    if not model.ir_version or not model.HasField("graph") or not model.graph.output:
        raise ModelError(f"{what} is not an ONNX model, or it is damaged or cut off: it holds no graph with outputs")
    if not model.opset_import:
        raise ModelError(f"{what} does not say which opset it is written in; it is damaged or cut off")
    opset = next((o.version for o in model.opset_import if o.domain in DEFAULT_DOMAINS), None)
    newest = onnx.defs.onnx_opset_version()
    if opset is not None and opset < OLDEST_OPSET:
        raise UnsupportedError(
            f"{what} is written in opset {opset}, the oldest supported is {OLDEST_OPSET}; onnx.version_converter can raise it"
        )
    if opset is not None and opset > newest:
        raise UnsupportedError(
            f"{what} is written in opset {opset}; the installed onnx {onnx.__version__} knows up to {newest}: pip install -U onnx"
        )
    return model
