"""What a backend must answer, and what it is told."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .errors import ModelError
from .graph import Graph, Node
from .tensor import TensorType

DLPACK_CUDA = 2
"""How DLPack numbers the memory of a GPU."""
ACCURACIES = ("fast", "strict", "exact")


@dc.dataclass(frozen=True)
class Options:
    """What the user asks of a backend; every backend refuses what it does not know with a ModelError."""

    threads: int | None = None
    """None: as many as this process may use."""
    accuracy: str = "fast"
    """"fast": any algorithm whose error bound is documented; "strict": at most F(2x2) Winograd; "exact": no Winograd."""
    precision: str | None = None
    """The dtype of the arithmetic where it may differ from the model's; None: the model's own.

    "float64" of the reference backend; "fp32", "tf32x3", "tf32", "bf16" of products and "fp16" of everything on the cuda backend.
    Inputs and outputs keep the model's dtypes.
    """
    target: str | None = None
    """The machine to generate for; None: this one."""
    tune: float = 0.0
    """Seconds for measuring candidates that nobody has measured yet; 0: what a rule says, whatever was measured before."""


@dc.dataclass(frozen=True, eq=False)
class DeviceArray:
    """An array of a caller that is not in the memory of the host."""

    value: Any
    """The caller's object: a CuPy array, or anything else with `__cuda_array_interface__` or `__dlpack__`."""
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    def copy(self) -> np.ndarray:
        """ModelError: whoever asks needs the values while compiling."""
        raise ModelError("an input whose values decide about shapes must be a NumPy array, not one on a GPU")

    def tobytes(self) -> bytes:
        """See `copy`."""
        return self.copy().tobytes()


def device_array(value: Any) -> DeviceArray | None:
    """The value, if it says that it lies on a GPU."""
    if isinstance(value, np.ndarray):
        return None
    if (interface := getattr(value, "__cuda_array_interface__", None)) is not None:
        return DeviceArray(value, np.dtype(interface["typestr"]), tuple(interface["shape"]))
    if hasattr(value, "__dlpack_device__") and int(value.__dlpack_device__()[0]) == DLPACK_CUDA:
        return DeviceArray(value, np.dtype(str(value.dtype).rpartition(".")[2]), tuple(value.shape))
    return None


class Executable(Protocol):
    """A graph compiled by a backend, ready to run. Several Python threads may call `run` at once."""

    graph: Graph
    """The graph as the backend lowered it."""

    def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """One array an output, in the graph's order: fresh ones, or those of `out`, filled. Inputs have been checked."""
        ...

    def describe(self) -> str:
        """The plan as text: steps, memory, and what falls back and why."""
        ...

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        """(step, median seconds) for every step, in order."""
        ...


@runtime_checkable
class Itemized(Protocol):
    """An Executable whose steps are those of a graph, one or several for a node."""

    def items(self) -> list[tuple[Node, str]]:
        """For each step of `profile`, in the same order: the node that it computes, and the family of its kernel."""
        ...

    def profile_alone(self, inputs: Sequence[np.ndarray], kinds: tuple[type[Node], ...], repeats: int = 10) -> list[float]:
        """Median seconds of every step for a node of these kinds, each repeated by itself so that its data are warm; 0 for others."""
        ...


@runtime_checkable
class OnDevice(Protocol):
    """An Executable that can leave arrays where they are, on a GPU."""

    def run_on_device(
        self, inputs: Sequence[np.ndarray | DeviceArray], out: Sequence[np.ndarray | DeviceArray] | None = None
    ) -> Sequence[np.ndarray | DeviceArray]:
        """As `run`; fresh results are arrays on the device."""
        ...


@dc.dataclass(frozen=True)
class MachineCode:
    """What was compiled for machines that need not be here."""

    files: Mapping[str, bytes]
    report: Mapping[str, Any]
    """What JSON can express."""
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    """The report as a table."""


@runtime_checkable
class CrossCompiling(Protocol):
    """A kind of Backend (what `plugins.load` gives) that compiles for machines that need not be here."""

    def machine_code(self, graph: Graph, architectures: Sequence[str], options: Options) -> MachineCode:
        """Code of all kernels that the graph needs, for each architecture; ("all",) means each that has the precision."""
        ...


@runtime_checkable
class Graphless(Protocol):
    """An Executable that was made from no graph."""

    results: tuple[TensorType, ...]
    """The types of its outputs."""


def result_types(executable: Executable | Graphless) -> tuple[TensorType, ...]:
    """The types of the outputs."""
    return executable.results if isinstance(executable, Graphless) else tuple(o.type for o in executable.graph.outputs)


@dc.dataclass(frozen=True)
class Stored:
    """An Executable in a form that a file can hold."""

    opener: str
    """The plug-in of kind "backends" that makes an Executable from it: `(plan, code, read) -> Graphless`.

    `read` fills an array of bytes with the constants.
    """
    plan: Mapping[str, Any]
    """What JSON can express."""
    code: bytes
    constants: Sequence[np.ndarray]
    """Bytes, in pieces that follow each other."""


@runtime_checkable
class Storable(Protocol):
    """An Executable that can be saved."""

    def stored(self) -> Stored:
        """Everything that running it takes. Raises UnsupportedError for what cannot be saved."""
        ...


class Backend(Protocol):
    """A way to run graphs. `plugins.load("backends", name)` is a callable that makes one from Options."""

    name: str

    def compile(self, graph: Graph) -> Executable:
        """Lower the graph, plan it and generate its code. Raises UnsupportedError with everything it cannot do."""
        ...


@runtime_checkable
class Measurable(Protocol):
    """A Backend that knows how many threads it uses and what they can do at most."""

    @property
    def threads(self) -> int: ...

    def peak(self) -> float:
        """Arithmetic operations a second on registers alone, by all threads, measured now."""
        ...


@runtime_checkable
class Approximate(Protocol):
    """A Backend that may have been asked for a lower precision than the model's."""

    @property
    def error(self) -> float:
        """The largest difference / the largest value that its precision explains in a whole network; 0: the types alone do."""
        ...


def delivered(results: list[np.ndarray], out: Sequence[np.ndarray] | None) -> list[np.ndarray]:
    """What `run` answers when it has computed fresh arrays: these, or those of `out`, filled."""
    if out is None:
        return results
    for target, result in zip(out, results, strict=True):
        target[...] = result
    return list(out)
