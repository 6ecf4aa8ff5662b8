"""RNN, GRU and LSTM: what does not depend on the state in one kernel for all time steps, then a block for each sequence and direction.

The block keeps the state in shared memory; a warp sums a row of the recurrent weights, which stay in the second-level cache.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...engine.expression import IDENTITY, Expression, apply, substitute
from ...engine.graph import Node
from ...engine.ops.recurrent import DIRECTIONS, GRU, LSTM, RNN, Recurrent, activation_expressions
from ..common.cuda_expression import print_expression, unsupported
from ..common.cuda_functions import literal, loaded, memory_type, register_type, stored
from ..common.storage import result_offset
from .elements import MOST_ELEMENTS, WIDEST, check_plain, lines
from .kernel import Address, Argument, Call, Extent, Kernel, Machine, NoKernel, Parameter, Scratch, lowers
from .lanes import WARP
from .reduce import accumulated_dtype

ROWS = 8
"""Rows of x that a warp multiplies with a row of the weights at once."""
OPTIONAL = ("bias", "lengths", "hidden", "cell", "peephole")


def dot_pack(dtype: np.dtype, count: int) -> int:
    """Neighbours of a row that a lane reads at once."""
    return math.gcd(count, WIDEST // dtype.itemsize)


@dc.dataclass(frozen=True)
class ProjectKernel(Kernel):
    """products[row, d, g] = x[row, :] . weight[d, g, :] + bias[d, g], with a warp for each (d, g) and `ROWS` rows of x."""

    dtype: np.dtype
    rows: int
    features: int
    directions: int
    outputs: int
    biased: bool

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        bias = (Parameter("bias", self.dtype),) if self.biased else ()
        given = Parameter("x", self.dtype), Parameter("weight", self.dtype), *bias
        return (*given, Parameter("products", accumulated_dtype("sum", self.dtype), written=True))

    @property
    def block(self) -> Extent:
        return WARP, 4, 1

    @property
    def grid(self) -> Extent:
        return -(-self.directions * self.outputs // 4), -(-self.rows // ROWS), 1

    def body(self) -> str:
        kind, width = register_type(self.dtype), dot_pack(self.dtype, self.features)
        pack, total = f"Pack<{memory_type(self.dtype)}, {width}>", self.directions * self.outputs
        product = f"{loaded('given.at[v]', self.dtype)} * {loaded('weights.at[v]', self.dtype)}"
        half = f"{loaded(f'bias[output + output / {self.outputs} * {self.outputs}]', self.dtype)}"
        return lines(
            "const int lane = threadIdx.x, output = blockIdx.x * 4 + threadIdx.y;",
            f"if (output >= {total}) return;",
            f"{kind} sums[{ROWS}];",
            f"UNROLL for (int r = 0; r < {ROWS}; r++) sums[r] = 0;",
            f"for (int k = lane * {width}; k < {self.features}; k += {WARP * width}) {{",
            f"const {pack} weights = *(const {pack}*)(weight + output * {self.features} + k);",
            f"UNROLL for (int r = 0; r < {ROWS}; r++) {{",
            f"const int row = min((int)blockIdx.y * {ROWS} + r, {self.rows - 1});",
            f"const {pack} given = *(const {pack}*)(x + row * {self.features} + k);",
            f"UNROLL for (int v = 0; v < {width}; v++) sums[r] += {product};",
            "}",
            "}",
            f"UNROLL for (int r = 0; r < {ROWS}; r++) {{",
            "UNROLL for (int step = 16; step; step /= 2) sums[r] += shuffle_xor(sums[r], step);",
            f"const int row = blockIdx.y * {ROWS} + r;",
            f"if (lane == 0 && row < {self.rows}) products[row * {total} + output] = sums[r]{f' + {half}' if self.biased else ''};",
            "}",
        )


@dc.dataclass(frozen=True)
class RecurrentKernel(Kernel):
    """All time steps of sequences: block (b, d) is sequence b in direction `first` + d."""

    kind: str
    dtype: np.dtype
    activations: tuple[Expression, ...]
    given: tuple[tuple[str, np.dtype], ...]
    """The optional operands that are there."""
    option: bool
    """GRU's linear_before_reset, or LSTM's input_forget."""
    time: int
    directions: int
    batch: int
    extent: int
    first: int
    backwards: tuple[bool, ...]
    """For each direction from `first` on."""

    @property
    def gates(self) -> int:
        """Rows of weights for each element of the state."""
        return {"rnn": 1, "gru": 3, "lstm": 4}[self.kind]

    @property
    def has(self) -> frozenset[str]:
        """Names of the optional operands that are there."""
        return frozenset(name for name, _ in self.given)

    @property
    def results(self) -> tuple[str, ...]:
        """Names of the results."""
        return ("y", "last_hidden", "last_cell")[: 3 if self.kind == "lstm" else 2]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        optional = (Parameter(name, dtype) for name, dtype in self.given)
        products = Parameter("products", accumulated_dtype("sum", self.dtype))
        return (products, Parameter("recurrent", self.dtype), *optional, *(Parameter(r, self.dtype, written=True) for r in self.results))

    @property
    def grid(self) -> Extent:
        return self.batch, len(self.backwards), 1

    @property
    def block(self) -> Extent:
        return WARP, 16 if self.gates * self.extent >= 512 else 4, 1

    @property
    def shared(self) -> int:
        return accumulated_dtype("sum", self.dtype).itemsize * (self.gates + 3) * self.extent

    def body(self) -> str:
        kind, h = register_type(self.dtype), self.extent
        names = ("sums", "h_now", "c_now", "reset")
        starts = (0, *((self.gates + i) * h for i in range(3)))
        memory = [f"{kind}* const {name} = ({kind}*)memory + {start};" for name, start in zip(names, starts, strict=True)]
        backwards = " || ".join(f"blockIdx.y == {d}" for d, back in enumerate(self.backwards) if back) or "false"
        return lines(
            "SHARED_MEMORY(memory);",
            *memory,
            f"const int lane = threadIdx.x, warp = threadIdx.y, thread = warp * {WARP} + lane;",
            f"const int item = blockIdx.x, d = blockIdx.y + {self.first}, state = (d * {self.batch} + item) * {h};",
            f"const bool backwards = {backwards};",
            f"const int length = {f'min({self.time}, (int)lengths[item])' if 'lengths' in self.has else self.time};",
            self._each(f"h_now[j] = {self._initial('hidden')}; c_now[j] = {self._initial('cell')};"),
            "__syncthreads();",
            f"for (int number = 0; number < {self.time}; number++) {{",
            f"const int t = backwards ? {self.time - 1} - number : number;",
            f"const int row = (t * {self.directions} + d) * {self.batch} + item;",
            "if (t < length) {",
            f"const auto* const from_x = products + ((t * {self.batch} + item) * {self.directions} + d) * {self.gates * h};",
            self._step(),
            "} else {",
            self._each(f"y[row * {h} + j] = {stored(literal(0, self.dtype), self.dtype)};"),
            "}",
            "}",
            self._each(f"last_hidden[state + j] = {stored('h_now[j]', self.dtype)};"),
            self._each(f"last_cell[state + j] = {stored('c_now[j]', self.dtype)};") if self.kind == "lstm" else "",
        )

    def _initial(self, name: str) -> str:
        return loaded(f"{name}[state + j]", self.dtype) if name in self.has else "0"

    def _each(self, text: str) -> str:
        """A statement for every element j of the state; the threads share them."""
        return f"for (int j = thread; j < {self.extent}; j += {self.threads}) {{ {text} }}"

    def _step(self) -> str:
        step = {"rnn": self._rnn, "gru": self._gru, "lstm": self._lstm}[self.kind]
        end = f"h_now[j] = next; y[row * {self.extent} + j] = {stored('next', self.dtype)};"
        return lines(*step(end), "__syncthreads();", spaces=0)

    def _products(self, first: int, last: int, vector: str) -> str:
        """sums = recurrent weights of some gates times a vector, and their bias."""
        kind, h, width = register_type(self.dtype), self.extent, dot_pack(self.dtype, self.extent)
        pack = f"Pack<{memory_type(self.dtype)}, {width}>"
        bias = loaded(f"bias[(2 * d + 1) * {self.gates * h} + r]", self.dtype) if "bias" in self.has else "0"
        return lines(
            f"for (int r = warp + {first * h}; r < {last * h}; r += {self.block[1]}) {{",
            f"{kind} sum = 0;",
            f"for (int k = lane * {width}; k < {h}; k += {WARP * width}) {{",
            f"const {pack} weights = *(const {pack}*)(recurrent + (d * {self.gates * h} + r) * {h} + k);",
            f"UNROLL for (int v = 0; v < {width}; v++) sum += {loaded('weights.at[v]', self.dtype)} * {vector}[k + v];",
            "}",
            "UNROLL for (int step = 16; step; step /= 2) sum += shuffle_xor(sum, step);",
            f"if (lane == 0) sums[r] = sum + {bias};",
            "}",
            "__syncthreads();",
            spaces=0,
        )

    def _gate(self, gate: int, inner: str = "") -> str:
        """The sum that goes into a gate."""
        return f"(from_x[{gate * self.extent} + j] + {inner or self._sum(gate)})"

    def _sum(self, gate: int) -> str:
        return f"sums[{gate * self.extent} + j]"

    def _activated(self, name: str, number: int, value: str) -> str:
        """Statements that give a name to the activation of a value."""
        kind = register_type(self.dtype)
        printed = print_expression(self.activations[number], [f"{name}_sum"], [self.dtype], prefix=f"{name}_")
        return " ".join([f"const {kind} {name}_sum = {value};", *printed.statements, f"const {kind} {name} = {printed.value};"])

    def _rnn(self, end: str) -> list[str]:
        return [self._products(0, 1, "h_now"), self._each(f"{self._activated('next', 0, self._gate(0))} {end}")]

    def _gru(self, end: str) -> list[str]:
        kind = register_type(self.dtype)
        z, r = (self._activated(name, 0, self._gate(gate)) for gate, name in enumerate("zr"))
        mixed = f"const {kind} next = (1 - z) * n + z * h_now[j]; {end}"
        if self.option:
            n = self._activated("n", 1, self._gate(2, f"r * {self._sum(2)}"))
            return [self._products(0, 3, "h_now"), self._each(f"{z} {r} {n} {mixed}")]
        n = self._activated("n", 1, self._gate(2))
        return [
            self._products(0, 2, "h_now"),
            self._each(f"{z} {r} {self._sum(0)} = z; reset[j] = r * h_now[j];"),
            "__syncthreads();",
            self._products(2, 3, "reset"),
            self._each(f"const {kind} z = {self._sum(0)}; {n} {mixed}"),
        ]

    def _lstm(self, end: str) -> list[str]:
        kind = register_type(self.dtype)
        text = [f"const {kind} old = c_now[j];", self._activated("i", 0, self._peep(0, "old"))]
        text.append(f"const {kind} f = 1 - i;" if self.option else self._activated("f", 0, self._peep(2, "old")))
        text += [self._activated("g", 1, self._gate(3)), f"const {kind} cell_now = f * old + i * g;"]
        text += [self._activated("o", 0, self._peep(1, "cell_now")), self._activated("c", 2, "cell_now")]
        text += [f"c_now[j] = cell_now; const {kind} next = o * c;", end]
        return [self._products(0, 4, "h_now"), self._each(" ".join(text))]

    def _peep(self, gate: int, cell: str) -> str:
        """The sum of a gate that may see the cell."""
        if "peephole" not in self.has:
            return self._gate(gate)
        peephole = loaded(f"peephole[d * {3 * self.extent} + {gate * self.extent} + j]", self.dtype)
        return f"{self._gate(gate)} + {peephole} * {cell}"


@lowers(RNN, GRU, LSTM)
def lower_recurrent(node: Recurrent, machine: Machine) -> list[Call]:
    """The products with x, then a call for each run of directions with the same activations: nearly always one."""
    check_plain(*node.types, *(operand.type for operand in node.operands))
    dtype = node.x.type.dtype
    activations = [tuple(_clipped(f, node.clip if i < 2 else None) for i, f in enumerate(fs)) for fs in activation_expressions(node)]
    if reason := next((r for part in activations for f in part if (r := unsupported(f, [dtype]))), ""):
        raise NoKernel(reason)
    time, directions, batch, extent = node.types[0].shape
    if 0 in (time, batch, extent, node.x.type.shape[2]):
        raise NoKernel("a recurrent layer without steps, sequences, features or state")
    project = ProjectKernel(dtype, time * batch, node.x.type.shape[2], directions, node.gates * extent, node.bias is not None)
    if project.rows * directions * project.outputs > MOST_ELEMENTS:
        raise NoKernel("more products of x than an index of 32 bits counts")
    products = Scratch(project.rows * directions * project.outputs * accumulated_dtype("sum", dtype).itemsize)
    bias: dict[str, Argument] = {} if node.bias is None else {"bias": node.bias}
    groups = [(0, directions)] if len(set(activations)) == 1 else [(d, 1) for d in range(directions)]
    calls = [_call(node, products, activations[first], first, count) for first, count in groups]
    if calls[0].kernel.shared > machine.architecture.shared_per_block:
        raise NoKernel(f"a state of {extent} elements")
    return [Call(project, {"x": node.x, "weight": node.weight, "products": products} | bias), *calls]


def _clipped(function: Expression, bound: float | None) -> Expression:
    return function if bound is None else substitute(function, (apply("clip", IDENTITY, -bound, bound),))


def _call(node: Recurrent, products: Scratch, activations: tuple[Expression, ...], first: int, count: int) -> Call:
    """The step for directions first to first + count."""
    time, directions, batch, extent = node.types[0].shape
    given: dict[str, Node] = {name: operand for name in OPTIONAL if (operand := getattr(node, name, None)) is not None}
    option = getattr(node, "linear_before_reset", False) or getattr(node, "input_forget", False)
    kernel = RecurrentKernel(
        type(node).__name__.lower(), node.x.type.dtype, activations, tuple((name, operand.type.dtype) for name, operand in given.items()),
        option, time, directions, batch, extent, first, DIRECTIONS[node.direction][first : first + count],
    )  # fmt: skip
    results = {name: Address(node, result_offset(node, i)) for i, name in enumerate(kernel.results)}
    places: Mapping[str, Any] = {"products": products, "recurrent": node.recurrent} | given | results
    return Call(kernel, places)
