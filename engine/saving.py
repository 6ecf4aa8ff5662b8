"""A Session with its plans → a file, and back: what is in the header, and what an opened session can do."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import plugins
from .backend import CrossCompiling, Executable, Storable
from .errors import ModelError, UnsupportedError
from .graph import Graph
from .session import Session
from .source import InputSpec, Shapes

Key = tuple[tuple[tuple[int, ...], ...], tuple[bytes, ...]]
"""The shapes of the inputs, and the bytes of those whose values decide about shapes."""


def save_session(session: Session, path: str | os.PathLike[str]) -> None:
    """See Session.save."""
    from .saved import save  # here, so that importing Tilewright does not wait for it

    plans = session.plans
    if not plans:
        raise ModelError(f"there is nothing to save yet: the shapes of {session.source.name} are open; {session.how_to_fix_shapes}")
    stored = []
    for executable in plans.values():
        if not isinstance(executable, Storable):
            raise UnsupportedError(_why_not(session))
        stored.append(executable.stored())
    header = {
        "tilewright": _version(),
        "name": session.source.name,
        "inputs": [[s.name, s.dtype.str, s.shape, s.typical] for s in session.source.inputs],
        "outputs": session.source.output_names,
        "keys": [[shapes, [value.hex() for value in values]] for shapes, values in plans],
        "needs_values": sorted(session.needs_values),
        "explained": session.explain(),
    }
    save(path, header, stored)


def _why_not(session: Session) -> str:
    """Whose plans cannot be saved, and what can be kept instead."""
    if isinstance(session.backend, CrossCompiling):
        how = f"`tilewright compile MODEL --backend {session.backend.name} --arch all -o FILE.zip` keeps its kernels"
        return f"a compiled model of the {session.backend.name} backend cannot be saved; {how}"
    return "only what the cpu backend has compiled can be saved; a session that was opened is a file already"


def open_session(path: str | os.PathLike[str], verify: bool = False) -> Session:
    """A model that Session.save or `tilewright compile` has written, ready to run as it was; nothing is compiled.

    What is run is the machine code in the file: open only files that you would run a program from.
    verify: also compare the constants with their checksums. Raises ModelError for a file that is damaged, of another version or no
    compiled model, MachineError where this machine lacks what the code needs.
    """
    from .saved import SavedFile

    with SavedFile(path) as file:
        header = file.header
        if header["tilewright"] != _version():
            made = header["tilewright"]
            raise file.damaged(f"Tilewright {made} made it, and this is {_version()}; compile the model again with this version")
        plans = {}
        for index, (key, entry) in enumerate(zip(header["keys"], file.plans, strict=True)):
            read = functools.partial(file.read_constants, index, verify=verify)
            plans[_key(key)] = plugins.load("backends", entry["opener"])(entry["plan"], file.code(index), read)
    inputs = tuple(InputSpec(n, np.dtype(d), tuple(s), t and tuple(t)) for n, d, s, t in header["inputs"])
    source = Saved(header["name"], inputs, tuple(header["outputs"]), [shapes for shapes, _ in plans])
    return OpenedSession(source, plans, frozenset(header["needs_values"]), header["explained"])


def _version() -> str:
    return importlib.import_module(plugins.ROOT).__version__


def _key(saved: Any) -> Key:
    shapes, values = saved
    return tuple(map(tuple, shapes)), tuple(map(bytes.fromhex, values))


class Saved:
    """The signature of a model that was saved; there is no graph to make other plans from."""

    def __init__(self, name: str, inputs: tuple[InputSpec, ...], output_names: tuple[str, ...], known: list[Any]) -> None:
        self.name, self.inputs, self.output_names = name, inputs, output_names
        self._known = known

    def graph(self, shapes: Shapes, values: Mapping[str, np.ndarray]) -> Graph:
        """ModelError: other shapes, or values, were asked for than it was compiled for."""
        asked = self._text([shapes[spec.name] for spec in self.inputs])
        known = "; ".join(dict.fromkeys(map(self._text, self._known)))
        values_too = f" and certain values of {', '.join(values)}" if values else ""
        raise ModelError(f"this model was compiled and saved for {known}{values_too}, got {asked}; compile it for that as well and save it")

    def _text(self, shapes: Any) -> str:
        return ", ".join(f"{s.name}=({','.join(map(str, shape))})" for s, shape in zip(self.inputs, shapes, strict=True))


class OpenedSession(Session):
    """A session from a file. It has plans, but neither a graph nor the means to compile."""

    def __init__(self, source: Saved, plans: Mapping[Key, Executable], needs_values: frozenset[str], explained: str) -> None:
        super().__init__(source, lambda graph, _: self._refuse(graph()), plans=plans)
        self._needs_values, self._explained = needs_values, explained

    @property
    def graph(self) -> Graph:
        """ModelError: a file keeps none."""
        raise ModelError("a session that was opened from a file has no graph; `tilewright.load` gives that of the original model")

    def explain(self) -> str:
        """What every pass did when the model was compiled."""
        return self._explained

    @staticmethod
    def _refuse(graph: Graph) -> Executable:
        raise NotImplementedError(f"{graph.name}: a Saved source gives no graph")
