"""Trained weights for a model: which tensor of a file belongs to which parameter, by name, and what does not fit."""

from __future__ import annotations

import dataclasses as dc
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from . import plugins
from .compiler import named_model
from .debug import report as say
from .errors import ModelError, ModelWarning
from .graph import Constant, Graph, Node
from .tensor import TensorType
from .tensor_files import TensorFile, read_tensors

OWN_NAMES = "the model's own (torchvision's, where it has the model)"
UNKNOWN_NAMES = "of something else"
IGNORED = re.compile(r"(^|\.)num_batches_tracked$")
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What training in parallel, compilation and training frameworks put before every name."""
LISTED = 8
"""How many names of a kind are printed."""


class ParameterType(Protocol):
    """What is asked of a model's declaration of a parameter."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...


@runtime_checkable
class Weighted(Protocol):
    """A model that knows its parameters by name and makes another model with other arrays, as those of the DSL do."""

    @property
    def name(self) -> str: ...
    def declarations(self) -> Mapping[str, ParameterType]: ...
    def with_weights(self, weights: Mapping[str, np.ndarray]) -> Any: ...


@dc.dataclass(frozen=True)
class Misfit:
    """A parameter whose tensor in the file is of another shape or kind of number."""

    name: str
    expected: TensorType
    found: TensorType

    def __str__(self) -> str:
        return f"{self.name!r}, expected {self.expected}, found {self.found}"


@dc.dataclass(frozen=True)
class WeightsReport:
    """How a file fits a model. Names are the model's, those of unexpected tensors the file's."""

    model: str
    file: str
    naming: str
    """Whose names the file uses."""
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[Misfit, ...]
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every parameter has its tensor and every tensor its parameter."""
        return not (self.missing or self.unexpected or self.misshaped)

    @property
    def classes(self) -> tuple[int, int] | None:
        """(the file's, the model's) number of classes, where nothing but a last layer of another length is of another shape."""
        layers = {misfit.name.rpartition(".")[0] for misfit in self.misshaped}
        heights = {(m.found.shape[:1], m.expected.shape[:1]) for m in self.misshaped if m.found.shape[1:] == m.expected.shape[1:]}
        if len(layers) != 1 or len(heights) != 1 or not any(m.expected.rank == 2 for m in self.misshaped):
            return None
        (found, expected) = heights.pop()
        return found[0], expected[0]

    def __str__(self) -> str:
        count = len(self.loaded) + len(self.missing) + len(self.misshaped)
        lines = [f"{self.file!r} has tensors for {len(self.loaded)} of the {count} parameters of {self.model}; names: {self.naming}"]
        lines += _listed("missing in the file", map(repr, self.missing))
        lines += _listed("not in the model", map(repr, self.unexpected))
        lines += _listed("of another shape or type", map(str, self.misshaped))
        if self.classes:
            lines.append(f"  the last layer of the file is for {self.classes[0]} classes, that of the model for {self.classes[1]}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def load_weights(model: Any, file: str | os.PathLike[str], *, strict: bool = True) -> Any:
    """The same model with the weights of a file: safetensors (.safetensors) or a PyTorch state dict (.pt, .pth, .bin, .ckpt).

    model: a name of the zoo or a DSL model, which give a DSL model, or a Graph, whose constants are parameters if they have names.
    strict: every parameter must have its tensor and every tensor its parameter; otherwise what fits is loaded and a ModelWarning
    says what does not.

    Names may be the model's own, those of timm or of older torchvision files, for the networks in `models/namings.py`.
    Raises ModelError with a list of what is missing, unexpected and of another shape; MachineError when a package is missing.
    """
    target, arrays, report = _matched(model, file)
    if not report.loaded or (strict and not report.fits):
        raise ModelError(f"{report}\n{_advice(report)}")
    if not report.fits:
        warnings.warn(f"{report}\n  parameters without a tensor keep what they had", ModelWarning, stacklevel=2)
    say(str(report))
    return target.with_weights(arrays) if isinstance(target, Weighted) else _with_constants(target, arrays)


def weights_report(model: Any, file: str | os.PathLike[str]) -> WeightsReport:
    """How a file would fit a model, without loading anything into it."""
    return _matched(model, file)[2]


def _matched(model: Any, file: str | os.PathLike[str]) -> tuple[Weighted | Graph, dict[str, np.ndarray], WeightsReport]:
    target = named_model(model)
    if not isinstance(target, Weighted | Graph):
        raise ModelError(f"load_weights: expected a name of the zoo, a DSL model or a Graph, got {target!r}; tilewright.load makes a Graph")
    return target, *fitted(target.name, parameters(target), read_tensors(file))


def parameters(model: Weighted | Graph) -> dict[str, TensorType]:
    """The type of every parameter by name; those of a Graph are its floating-point constants that have names."""
    if isinstance(model, Graph):
        return {constant.origin[0]: constant.type for constant in _named_constants(model)}
    return {name: TensorType(np.dtype(p.dtype), tuple(p.shape)) for name, p in model.declarations().items()}


def _named_constants(graph: Graph) -> list[Constant]:
    return [n for n in graph.nodes if isinstance(n, Constant) and len(n.origin) == 1 and n.type.dtype.kind == "f"]


def fitted(model: str, expected: Mapping[str, TensorType], stored: TensorFile) -> tuple[dict[str, np.ndarray], WeightsReport]:
    """The arrays by parameter, each in the type of its parameter, and the report."""
    tensors = {name: array for name, array in stored.tensors.items() if not IGNORED.search(name)}
    naming, names = _recognised(list(tensors), expected)
    theirs = {own: name for name, own in names.items()}
    arrays, misfits = dict[str, np.ndarray](), list[Misfit]()
    for own, kind in expected.items():
        if own in theirs:
            found = tensors[theirs[own]]
            if (array := _as_expected(found, kind)) is None:
                misfits.append(Misfit(own, kind, TensorType(found.dtype, found.shape)))
            else:
                arrays[own] = array
    notes = (*stored.notes, *_notes(arrays, {own: tensors[theirs[own]] for own in arrays}))
    missing = tuple(own for own in expected if own not in theirs)
    unexpected = tuple(sorted(name for name, own in names.items() if own not in expected))
    return arrays, WeightsReport(model, stored.path, naming, tuple(arrays), missing, unexpected, tuple(misfits), notes)


def _recognised(names: list[str], expected: Mapping[str, TensorType]) -> tuple[str, dict[str, str]]:
    """The naming that knows most parameters of the model, its own if it is as good, and the model's name for each name of the file."""
    best, found = OWN_NAMES, dict[str, str]()
    for label, rules in {OWN_NAMES: (), **plugins.load("models", "namings")}.items():
        for prefix in ("", *(p for p in PREFIXES if names and all(n.startswith(p) for n in names))):
            renamed = {name: _renamed(name.removeprefix(prefix), rules) for name in names}
            if len(set(renamed.values())) < len(renamed):
                continue  # two tensors would have one name: these rules are for another network
            if not found or _hits(renamed, expected) > _hits(found, expected):
                best, found = label, renamed
    return (best if _hits(found, expected) else UNKNOWN_NAMES), found


def _hits(renamed: Mapping[str, str], expected: Mapping[str, TensorType]) -> int:
    return sum(own in expected for own in renamed.values())


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _as_expected(array: np.ndarray, expected: TensorType) -> np.ndarray | None:
    """The array in the type of its parameter; None where it does not fit.

    A fully connected layer and a convolution over its whole input have the same weights, (k, c*h*w) and (k, c, h, w).
    """
    if array.dtype.kind != expected.dtype.kind:
        return None
    if array.shape != expected.shape:
        is_whole_window = array.shape[:1] == expected.shape[:1] and array.size == expected.size and 2 in (array.ndim, expected.rank)
        if not is_whole_window:
            return None
        array = array.reshape(expected.shape)
    return np.ascontiguousarray(array, expected.dtype)


def _notes(arrays: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> list[str]:
    """How many arrays were converted to another type or shape, and from what."""
    counts = dict[str, int]()
    for name, array in arrays.items():
        if array.dtype != found[name].dtype:
            key = f"tensors were {found[name].dtype} and are {array.dtype} now"
            counts[key] = counts.get(key, 0) + 1
        if array.shape != found[name].shape:
            key = "tensors hold a convolution over its whole input where the model has a fully connected layer, or the other way round"
            counts[key] = counts.get(key, 0) + 1
    return [f"{count} {text}" for text, count in counts.items()]


def _with_constants(graph: Graph, arrays: Mapping[str, np.ndarray]) -> Graph:
    """The graph with other data in its named constants."""
    new: dict[Node, Node] = {n: n.replace(data=arrays[n.origin[0]]) for n in _named_constants(graph) if n.origin[0] in arrays}
    for node in graph:
        if node not in new:
            new[node] = node.map_operands(new.__getitem__)
    return graph.with_outputs([new[o] for o in graph.outputs])


def _listed(title: str, entries: Iterable[str]) -> list[str]:
    found = list(entries)
    if not found:
        return []
    more = [f"and {len(found) - LISTED} more"] if len(found) > LISTED else []
    return [f"  {title}: {'; '.join([*found[:LISTED], *more])}"]


def _advice(report: WeightsReport) -> str:
    """What to do about a file that does not fit."""
    if not report.loaded:
        return "no tensor fits: is the file for another model? Its names must be the model's, or be renamed in models/namings.py"
    if report.classes and not report.missing and not report.unexpected:
        return f"make the model for {report.classes[0]} classes, or load all but the last layer with strict=False"
    return "check that the file is for this model; strict=False loads what fits"
