"""Files of named tensors: safetensors, and the state dicts that PyTorch saves. Reading one runs no code of its author."""

from __future__ import annotations

import dataclasses as dc
import importlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import plugins
from .errors import ModelError

PYTORCH = (".pt", ".pth", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "net", "weights")
"""Under which names training scripts put the state dict into what they save."""
SAFETENSORS = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


@dc.dataclass(frozen=True)
class TensorFile:
    """What a file holds: arrays by their names in it, and what was peculiar about reading them."""

    path: str
    tensors: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()


def read_tensors(file: str | os.PathLike[str]) -> TensorFile:
    """The tensors of a file. Raises ModelError for a file that is damaged or holds something else, MachineError for a missing package."""
    path = os.fspath(file)
    if not os.path.isfile(path):
        raise ModelError(f"no weights {path!r}: there is no such file")
    suffix = pathlib.Path(path).suffix.lower()
    if suffix == ".safetensors":
        return _safetensors(path)
    if suffix in PYTORCH:
        return _pytorch(path)
    raise ModelError(f"cannot tell what kind of file {path!r} is; expected the ending .safetensors or one of {', '.join(PYTORCH)}")


def _safetensors(path: str) -> TensorFile:
    package = _package("safetensors")
    try:
        found = package.deserialize(pathlib.Path(path).read_bytes())
    except package.SafetensorError as error:
        raise ModelError(f"{path!r} is no safetensors file, or damaged: {error}") from error
    halves = {name for name, about in found if about["dtype"] == "BF16"}
    return TensorFile(path, {name: _array(path, name, about) for name, about in found}, _widened("bfloat16", len(halves)))


def _array(path: str, name: str, about: Mapping[str, Any]) -> np.ndarray:
    """A tensor as `safetensors.deserialize` gives it; bfloat16 is the upper half of float32."""
    if about["dtype"] == "BF16":
        upper = np.frombuffer(about["data"], np.uint16).astype(np.uint32)
        return (upper << np.uint32(16)).view(np.float32).reshape(about["shape"])
    if about["dtype"] not in SAFETENSORS:
        raise ModelError(f"{path!r}: tensor {name!r} is of type {about['dtype']}; expected one of {', '.join(SAFETENSORS)} or BF16")
    return np.frombuffer(about["data"], SAFETENSORS[about["dtype"]]).reshape(about["shape"])


def _pytorch(path: str) -> TensorFile:
    torch = _package("torch")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged or hostile pickle raises is anybody's guess
        reason = str(error).partition("\n")[0] or type(error).__name__
        advice = "save model.state_dict() with torch.save, or use safetensors"
        raise ModelError(f"{path!r} is no PyTorch file of tensors alone, or damaged: {reason}; {advice}") from error
    found, notes = _state_dict(path, content, torch)
    halves = sum(tensor.dtype == torch.bfloat16 for tensor in found.values())
    arrays = {name: _as_array(path, name, tensor, torch) for name, tensor in found.items()}
    return TensorFile(path, arrays, (*notes, *_widened("bfloat16", halves)))


def _state_dict(path: str, content: Any, torch: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The tensors in what was saved, and where they were: at the top, or in the entry where training scripts put them."""
    tensors = _tensors(content, torch)
    if tensors:
        return tensors, ()
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and (tensors := _tensors(content.get(wrapper), torch)):
            return tensors, (f"the tensors were in the entry {wrapper!r}",)
    raise ModelError(f"{path!r} holds no state dict: expected tensors by name, at the top or in one of {', '.join(WRAPPERS)}")


def _tensors(content: Any, torch: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        return {}
    return {name: t for name, t in content.items() if isinstance(name, str) and isinstance(t, torch.Tensor)}


def _as_array(path: str, name: str, tensor: Any, torch: Any) -> np.ndarray:
    try:
        plain = tensor.detach()
        return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{path!r}: tensor {name!r} ({tensor.dtype}, {tensor.layout}) is no plain array: {error}") from error


def _widened(dtype: str, count: int) -> tuple[str, ...]:
    return (f"{count} tensors were {dtype} and are float32 now",) if count else ()


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        kind = "a safetensors file" if name == "safetensors" else "a PyTorch file"
        raise plugins.missing_package(name, f"reading {kind}") from error
