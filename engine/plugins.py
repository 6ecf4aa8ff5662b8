"""The one late-binding spot: names → frontends, passes, backends, models; ours by file name, yours by entry point."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import Any, Literal

from .errors import MachineError, ModelError

Kind = Literal["frontends", "passes", "backends", "models"]
ROOT = __name__.rpartition(".engine.")[0]
EXTRAS = {"cupy": "cuda13", "PIL": "image", "onnxruntime": "bench", "openvino": "bench", "safetensors": "weights"}
NOT_PLUGINS = {"common", "default", "demo"}


def load(kind: Kind, name: str) -> Any:
    """`load("passes", "fold_batchnorm")` is `passes/fold_batchnorm.py::fold_batchnorm`, else the entry point of `tilewright.passes`.

    A dotted name reaches into a folder: `load("frontends", "onnx.export")` is `frontends/onnx/export.py::export`. A folder that
    names its contents in `__all__`, as the zoo does, is asked first. A hyphen in a name of ours may stand for an underscore.
    Raises ModelError for an unknown name, MachineError when it needs a package that is not installed.
    """
    path = name.replace("-", "_")
    is_path = all(map(str.isidentifier, path.split(".")))
    if is_path and (ours := _ours(kind, path)) is not None:
        return ours
    for point in entry_points(kind):
        if point.name == name:
            return point.load()
    if not is_path:
        raise ModelError(f"{name!r} is not a name of {kind}")
    raise ModelError(f"no {name!r} among the {kind}{_resembling(path, available(kind))}: {', '.join(available(kind))}")


def _resembling(name: str, known: list[str]) -> str:
    from difflib import get_close_matches  # only an error needs it

    close = get_close_matches(name, known)
    return f" (is it {' or '.join(close)}?)" if close else ""


def _ours(kind: Kind, name: str) -> Any:
    """None: there is no such file."""
    package = importlib.import_module(f"{ROOT}.{kind}")
    if name in getattr(package, "__all__", ()):
        return getattr(package, name)
    path = f"{ROOT}.{kind}.{name}"
    try:
        return getattr(importlib.import_module(path), name.rpartition(".")[2])
    except ModuleNotFoundError as error:
        if error.name == path:
            return None
        if (error.name or "").startswith(f"{ROOT}."):
            raise
        raise missing_package(error.name or "", f"{name} ({kind})") from error


def available(kind: Kind) -> list[str]:
    """Every name that `load` knows."""
    package = importlib.import_module(f"{ROOT}.{kind}")
    modules = {m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")} - NOT_PLUGINS
    ours = getattr(package, "__all__", modules)
    return sorted(set(ours) | {p.name for p in entry_points(kind)})


@functools.cache
def entry_points(kind: Kind | Literal["engines"]) -> tuple[Any, ...]:
    """What installed packages offer under `tilewright.<kind>`; kept, because asking reads the metadata of every installed package."""
    from importlib import metadata  # costs as much as a third of NumPy's import

    return tuple(metadata.entry_points(group=f"{ROOT}.{kind}"))


def missing_package(module: str, what: str) -> MachineError:
    """The error that says what to install."""
    top = module.partition(".")[0]
    how = f'pip install "tilewright[{EXTRAS[top]}]"' if top in EXTRAS else f"pip install {top}"
    return MachineError(f"{what} needs the package {top}, which is not installed: {how}")
