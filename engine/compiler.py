"""model → source → graph → passes → backend → session: the whole road in one short module."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import knobs, plugins
from .backend import ACCURACIES, Backend, Executable, Options
from .debug import dump, report
from .errors import ModelError
from .graph import Graph
from .rewrite import Pass, Report, run_passes
from .session import Session
from .source import GraphSource, Shapes, Source


def compile(
    model: Any,
    *,
    backend: str | Backend = "cpu",
    threads: int | None = None,
    shapes: Shapes | None = None,
    passes: Sequence[str | Pass] | None = None,
    accuracy: str = "fast",
    precision: str | None = None,
    target: str | None = None,
    tune: bool | float = False,
) -> Session:
    """Compile a model for a backend.

    model: a path, the bytes or the `onnx.ModelProto` of an ONNX model, a Graph, a DSL function, or a name of the zoo.
    backend: "cpu", "reference", a plug-in's name, or a Backend object.
    threads: how many the cpu backend uses; None: as many as this process may.
    shapes: input name → shape, for models that leave dimensions open; otherwise they are compiled at the first run.
    passes: names or functions, in order; None: `passes.default`.
    accuracy: "fast", "strict" or "exact"; precision, target: see engine.backend.Options.
    tune: True: measure what is fastest for each layer on this machine, once, and keep it for the next time; a number: for so many seconds.

    Raises ModelError, UnsupportedError (all unsupported operators at once) or MachineError.
    """
    if accuracy not in ACCURACIES:
        raise ModelError(f"accuracy={accuracy!r}: expected one of {', '.join(ACCURACIES)}")
    if threads is not None and threads < 1:
        raise ModelError(f"threads={threads}: expected at least 1, or None for as many as this process may use")
    chain = resolve_passes(passes)
    options = Options(threads, accuracy, precision, target, tune_seconds(tune))
    machine: Backend = plugins.load("backends", backend)(options) if isinstance(backend, str) else backend

    def build(graph: Callable[[], Graph], ledger: Report) -> Executable:
        with stage("backend"):  # nobody but the backend holds the graph while it packs the weights
            executable = machine.compile(optimize(graph(), chain, ledger))
        dump(executable.describe(), "plan", level=3)
        return executable

    source = load_source(model)
    return Session(source, build, shapes, owns_source=source is not model, backend=machine)


def tune_seconds(tune: bool | float) -> float:
    """The budget behind `tune`: True means the one of the knob tune_seconds, False none."""
    seconds = float(knobs.get("tune_seconds") if tune is True else tune)
    if not 0 <= seconds < float("inf") or (tune is True and seconds == 0):
        raise ModelError(f"tune={tune!r}: expected True, False or a number of seconds, got {seconds:g} seconds")
    return seconds


def optimize(graph: Graph, passes: Sequence[str | Pass] | None = None, report: Report | None = None) -> Graph:
    """The graph after the passes (None: the default ones)."""
    dump(graph, "00_import")
    chain = resolve_passes(passes)
    with stage("passes"):
        return run_passes(graph, chain, report)


def resolve_passes(passes: Sequence[str | Pass] | None) -> list[Pass]:
    """Functions for names; None: the default order."""
    if isinstance(passes, str):
        raise ModelError(f"passes: expected a list of names or functions, got {passes!r}")
    chosen = passes if passes is not None else default_passes()
    return [plugins.load("passes", p) if isinstance(p, str) else p for p in chosen]


def default_passes() -> tuple[str, ...]:
    """The names of the default passes, in order."""
    import importlib

    return importlib.import_module(f"{plugins.ROOT}.passes.default").default


def load_source(model: Any) -> Source:
    """The Source behind whatever the user calls a model."""
    if isinstance(model, Graph):
        return GraphSource(model)
    if hasattr(model, "graph") and hasattr(model, "output_names"):
        return model
    model = named_model(model)
    if isinstance(model, str | os.PathLike):
        refuse_saved(model)
    frontend = "dsl" if callable(model) else "onnx"
    read = plugins.load("frontends", frontend)
    with stage(f"frontend {frontend}"):
        return read(model)


def named_model(model: Any) -> Any:
    """What a name of the zoo stands for; anything else as it is."""
    if isinstance(model, str) and model.isidentifier() and not os.path.exists(model):
        return plugins.load("models", model)
    return model


def refuse_saved(path: str | os.PathLike[str]) -> None:
    """ModelError for a file that needs no compilation."""
    from .saved import is_saved  # here, so that importing Tilewright does not wait for it

    if is_saved(path):
        raise ModelError(f"{os.fspath(path)!r} is compiled already; `tilewright run` takes it, and tilewright.open")


def load(model: Any, shapes: Shapes | None = None) -> Graph:
    """The Graph of a model as it was imported, before any pass; open dimensions need `shapes`."""
    source = load_source(model)
    known = dict(shapes or {})
    for spec in source.inputs:
        shape = known.get(spec.name, spec.shape_in_advance)
        if shape is None:
            raise ModelError(f"input {spec} leaves dimensions open: give shapes={{{spec.name!r}: (...)}}")
        known[spec.name] = shape
    return source.graph(known, {})


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """At debug level 1 the time that the block takes is printed."""
    start = time.perf_counter()
    yield
    report(f"{name}: {(time.perf_counter() - start) * 1e3:.1f} ms")
