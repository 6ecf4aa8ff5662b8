"""The arrays that a model is run on: from files, from pictures, or random ones on demand."""

from __future__ import annotations

import argparse
import pathlib
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ModelError
from ..images import Preprocessing, read_picture
from ..source import InputSpec, Shapes, Source, check_input, check_inputs
from .arguments import preprocessing, shapes

FORMATS = "--input NAME=FILE.npy, --image FILE or --random"


def gather(source: Source, arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """One checked array for each input of the model. Raises ModelError that lists the inputs when some are not given."""
    given = from_files(source.inputs, arguments.input)
    given |= from_pictures(source.inputs, arguments, given)
    if arguments.random:
        rng, known = np.random.default_rng(arguments.seed), {n: a.shape for n, a in given.items()}
        fixed = require_shapes(source, shapes(arguments) | known)
        given |= {s.name: random_array(s, fixed[s.name], rng) for s in source.inputs if s.name not in given}
    if missing := [spec for spec in source.inputs if spec.name not in given]:
        raise ModelError(f"no data for {', '.join(map(str, missing))}; give {FORMATS}")
    return check_inputs(source.inputs, given)


def wants_inputs(arguments: argparse.Namespace) -> bool:
    """Whether the command line names data at all."""
    return bool(arguments.input or arguments.image or arguments.random)


def require_shapes(source: Source, fixed: Shapes) -> dict[str, tuple[int, ...]]:
    """The shape of every input: from --shape, declared or typical. Raises ModelError for those left open."""
    if unknown := fixed.keys() - {s.name for s in source.inputs}:
        raise ModelError(f"--shape: no input named {', '.join(sorted(unknown))}; the model takes {', '.join(map(str, source.inputs))}")
    known = {s.name: shape for s in source.inputs if (shape := s.shape_in_advance) is not None} | dict(fixed)
    if left_open := [spec for spec in source.inputs if spec.name not in known]:
        raise ModelError(f"the model leaves dimensions open: {', '.join(map(str, left_open))}; fix them with {_shape_option(left_open[0])}")
    return known


def from_files(specs: Sequence[InputSpec], options: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of every `NAME=FILE.npy`, `NAME=FILE.npz`, `FILE.npz` (by name) or `FILE.npy` (where the model has one input)."""
    found: dict[str, np.ndarray] = {}
    for option in options:
        name, path = _split(specs, option)
        content = _read(path)
        if name is None and isinstance(content, np.ndarray):
            name = _only(specs, option)
        if name is None:
            found |= dict(content)
        else:
            found[name] = content if isinstance(content, np.ndarray) else _pick(content, name, path)
    if unknown := found.keys() - {s.name for s in specs}:
        raise ModelError(f"no input named {', '.join(sorted(unknown))}; the model takes {', '.join(map(str, specs))}")
    return found


def random_array(spec: InputSpec, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal floats, bytes over their whole range, other integers 0 or 1 (they may be indices)."""
    if spec.dtype.kind == "f":
        return np.asarray(rng.standard_normal(shape), spec.dtype)
    return rng.integers(0, 256 if spec.dtype == np.uint8 else 2, shape).astype(spec.dtype)


def from_pictures(specs: Sequence[InputSpec], arguments: argparse.Namespace, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The pictures as one batch, for the input they name or the only one that takes pictures."""
    if not arguments.image:
        return {}
    spec = picture_input(specs, arguments, given)
    how = Preprocessing(layout="nhwc") if arguments.preprocess else preprocessing(arguments)  # as bytes, or as the model expects them
    pictures = [read_picture(_split(specs, option)[1], how, spec.dtype) for option in arguments.image]
    if len({p.shape for p in pictures}) > 1:
        what = "leave --preprocess out" if arguments.preprocess else "give --resize or --crop"
        raise ModelError(f"--image: the pictures have different sizes; {what}")
    batch = np.concatenate(pictures)
    try:
        check_input(spec, batch)
    except ModelError as error:
        raise ModelError(f"{error} (pictures: --resize-short, --resize, --crop, --order, --layout)") from None
    return {spec.name: batch}


def picture_input(specs: Sequence[InputSpec], arguments: argparse.Namespace, given: Mapping[str, Any]) -> InputSpec:
    """The input that the pictures name, or the only one that takes pictures and is not given in another way."""
    names = {name for name, _ in (_split(specs, option) for option in arguments.image) if name}
    candidates = [s for s in specs if (s.name in names if names else len(s.shape) == 4 and s.name not in given)]
    if len(candidates) != 1:
        raise ModelError(f"--image: expected one input of rank 4, the model takes {', '.join(map(str, specs))}; say --image NAME=FILE")
    return candidates[0]


def _split(specs: Sequence[InputSpec], option: str) -> tuple[str | None, str]:
    """(input name or None, path); both may contain `=`, so the name is one that the model knows."""
    for spec in sorted(specs, key=lambda s: -len(s.name)):
        if option.startswith(f"{spec.name}="):
            return spec.name, option[len(spec.name) + 1 :]
    if "=" in option and not pathlib.Path(option).exists():
        raise ModelError(f"no input named {option.partition('=')[0]!r}; the model takes {', '.join(map(str, specs))}")
    return None, option


def _read(path: str) -> Any:
    """An array, or the arrays of an .npz by name."""
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"cannot read {path!r} as .npy or .npz: {error}") from error


def _only(specs: Sequence[InputSpec], option: str) -> str:
    if len(specs) != 1:
        raise ModelError(f"--input {option}: which input? Say NAME={option}; the model takes {', '.join(map(str, specs))}")
    return specs[0].name


def _pick(content: Mapping[str, np.ndarray], name: str, path: str) -> np.ndarray:
    if name in content:
        return content[name]
    if len(content) == 1:
        return next(iter(content.values()))
    raise ModelError(f"{path!r} has no array {name!r}, but {', '.join(content)}")


def _shape_option(spec: InputSpec) -> str:
    """An example to paste: open dimensions are 1."""
    sizes = "x".join(str(d) if isinstance(d, int) else "1" for d in spec.shape)
    return f"--shape {shlex.quote(f'{spec.name}={sizes}')}"
