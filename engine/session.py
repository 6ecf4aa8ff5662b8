"""A Session runs a model: it checks inputs, keeps one compiled plan for each input shape, and hands out fresh arrays."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .backend import Backend, DeviceArray, Executable, OnDevice, result_types
from .errors import ModelError
from .graph import Graph
from .rewrite import Report
from .source import NeedsValues, Releasable, Shapes, Source, apart, check_inputs, check_out, check_shape
from .tensor import TensorType

Build = Callable[[Callable[[], Graph], Report], Executable]
"""Makes a plan of the graph that the call gives; asked for so late, it belongs to nobody else."""
MAX_PLANS = 8
_compiling = threading.RLock()
"""Held while a plan is made. Plans that are there already are run meanwhile."""


def _after_fork() -> None:
    """The thread that was compiling did not come along into the child; its lock must not stay taken there."""
    global _compiling
    _compiling = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Session:
    """A compiled model. Made by `compile`; safe to call from several Python threads at once."""

    def __init__(
        self,
        source: Source,
        build: Build,
        shapes: Shapes | None = None,
        *,
        owns_source: bool = False,
        plans: Mapping[Any, Executable] | None = None,
        backend: Backend | None = None,
    ) -> None:
        """owns_source: nobody else makes graphs of the source, so that its weights may go once no more plans can be asked for.
        plans: those there are already; then none is made in advance. backend: who makes the others.
        """
        self.source, self.backend, self._build, self._owns_source = source, backend, build, owns_source
        self.report = Report()
        self._plans: OrderedDict[Any, Executable] = OrderedDict(plans or {})
        self._needs_values: frozenset[str] = frozenset()
        if plans is None and (fixed := self._shapes_in_advance(dict(shapes or {}))):
            self._compile_in_advance(fixed)

    def run(self, inputs: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One array for each output name. The caller owns them; with `out` the given C-contiguous arrays are filled and returned.

        Inputs may have any strides, and may share memory with arrays of `out`. The cuda backend takes arrays on the GPU, too (anything
        with `__cuda_array_interface__` or `__dlpack__`); where one comes in, CuPy arrays come out.
        Raises ModelError when an input is missing, unknown, or of another dtype or shape than the model declares.
        """
        arrays = check_inputs(self.source.inputs, inputs)
        executable = self._executable(arrays)
        targets = None if out is None else check_out(self._result_types(executable), out)
        given = [apart(array, targets or ()) for array in arrays.values()]
        if found := [array for array in (*given, *(targets or ())) if isinstance(array, DeviceArray)]:
            return self._run_on_device(executable, given, targets, found[0])
        return dict(zip(self.source.output_names, executable.run(given, targets), strict=True))

    def _run_on_device(self, executable: Executable, given: Any, targets: Any, found: DeviceArray) -> dict[str, Any]:
        if not isinstance(executable, OnDevice):
            raise ModelError(f"expected NumPy arrays, got {type(found.value).__name__} on a GPU; the cuda backend takes such arrays")
        results = executable.run_on_device(given, targets)
        return {n: r.value if isinstance(r, DeviceArray) else r for n, r in zip(self.source.output_names, results, strict=True)}

    def __call__(self, *arrays: np.ndarray) -> Any:
        """Inputs by position; the one output, or a tuple of them where there are several."""
        results = tuple(self.run(self._by_name(arrays)).values())
        return results[0] if len(results) == 1 else results

    @property
    def executable(self) -> Executable:
        """The plan used last. Raises ModelError while shapes are still open."""
        if not self._plans:
            open_inputs = ", ".join(map(str, self.source.inputs))
            raise ModelError(f"the shapes of this model are open ({open_inputs}); {self.how_to_fix_shapes}")
        return next(reversed(self._plans.values()))

    how_to_fix_shapes = "run it once or give compile(shapes=...)"

    @property
    def plans(self) -> dict[Any, Executable]:
        """Every plan there is, the one used last at the end, by the shapes of all inputs and the bytes of those that shapes depend on."""
        with _compiling:
            return dict(self._plans)

    @property
    def needs_values(self) -> frozenset[str]:
        """The inputs whose values decide about shapes, as far as that is known."""
        return self._needs_values

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all plans with their code and weights to one file, which `tilewright.open` makes a session of.

        Raises ModelError while there is no plan, UnsupportedError for a plan that falls back to NumPy somewhere, MachineError when the
        file cannot be written; what was there before then stays.
        """
        from .saving import save_session

        save_session(self, path)

    @property
    def graph(self) -> Graph:
        """The graph as the backend runs it."""
        return self.executable.graph

    @property
    def plan(self) -> str:
        """The plan as text."""
        return self.executable.describe()

    def explain(self) -> str:
        """What every pass did, and why rules declined where they looked."""
        return str(self.report)

    def profile(self, *arrays: np.ndarray, repeats: int = 10) -> list[tuple[str, float]]:
        """(step, median seconds) for every step of one run on these inputs."""
        checked = check_inputs(self.source.inputs, self._by_name(arrays))
        if any(isinstance(array, DeviceArray) for array in checked.values()):
            raise ModelError("profile: expected NumPy arrays")
        return self._executable(checked).profile(list(checked.values()), repeats)

    def _by_name(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        names = [spec.name for spec in self.source.inputs]
        if len(arrays) != len(names):
            raise ModelError(f"expected one array for each input ({', '.join(names)}), got {len(arrays)}")
        return dict(zip(names, arrays, strict=True))

    def _executable(self, arrays: dict[str, np.ndarray]) -> Executable:
        key = self._key(arrays)
        executable = self._plans.get(key)
        if executable is None:
            with _compiling:
                return self._compiled(arrays)
        with contextlib.suppress(KeyError):  # another thread's plan has just taken its place
            self._plans.move_to_end(key)
        return executable

    def _compiled(self, arrays: dict[str, np.ndarray]) -> Executable:
        """The plan for these inputs, made unless another thread has made it while this one waited."""
        while (executable := self._plans.get(key := self._key(arrays))) is None:
            try:
                self._plans[key] = self._specialized(arrays)
            except NeedsValues as question:
                self._needs_values |= question.names
            while len(self._plans) > MAX_PLANS:
                self._plans.popitem(last=False)
        return executable

    def _key(self, arrays: dict[str, np.ndarray]) -> tuple[Any, ...]:
        shapes = tuple(a.shape for a in arrays.values())
        return shapes, tuple(arrays[n].tobytes() for n in sorted(self._needs_values))

    def _specialized(self, arrays: dict[str, np.ndarray]) -> Executable:
        values = {name: arrays[name].copy() for name in self._needs_values}
        return self._build(lambda: self.source.graph({n: a.shape for n, a in arrays.items()}, values), self.report)

    def _shapes_in_advance(self, given: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]] | None:
        """All input shapes if they are known before the first run: given to `compile`, declared or typical."""
        if unknown := given.keys() - {s.name for s in self.source.inputs}:
            raise ModelError(
                f"shapes: no input named {', '.join(sorted(unknown))}; the model takes {', '.join(map(str, self.source.inputs))}"
            )
        for spec in self.source.inputs:
            if spec.name in given:
                given[spec.name] = check_shape(spec, given[spec.name])
            elif (shape := spec.shape_in_advance) is not None:
                given[spec.name] = shape
        return given if len(given) == len(self.source.inputs) else None

    def _compile_in_advance(self, shapes: dict[str, tuple[int, ...]]) -> None:
        ordered = tuple(tuple(shapes[s.name]) for s in self.source.inputs)
        try:
            self._plans[ordered, ()] = self._build(lambda: self._graph_in_advance(shapes), self.report)
        except NeedsValues as question:
            self._needs_values = question.names

    def _graph_in_advance(self, shapes: dict[str, tuple[int, ...]]) -> Graph:
        graph = self.source.graph(shapes, {})
        if self._owns_source and isinstance(self.source, Releasable) and all(spec.is_static for spec in self.source.inputs):
            self.source.release()
        return graph

    def _result_types(self, executable: Executable) -> dict[str, TensorType]:
        return dict(zip(self.source.output_names, result_types(executable), strict=True))
