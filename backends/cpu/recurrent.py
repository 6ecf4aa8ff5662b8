"""RNN, GRU and LSTM: one unit of work is one sequence in one direction, with its state in scratch memory.

The products read the weights as they are, several rows at a time, each with its own vector of partial sums; transposed and added,
these are one vector of the result.
"""

from __future__ import annotations

import contextlib
import dataclasses as dc
import functools
from collections.abc import Callable, Iterator
from typing import ClassVar

import llvmlite.ir as ir
import numpy as np

from ...engine.expression import IDENTITY, Expression, apply, substitute
from ...engine.graph import Node
from ...engine.ops.recurrent import DIRECTIONS, GRU, LSTM, RNN, Recurrent, activation_expressions
from ..common.llvm_expression import emit_expression, unsupported
from ..common.storage import result_offset
from .emit import I64, Emitter, Value
from .kernel import Address, Argument, Call, Kernel, Machine, NoKernel, Scratch, lowers
from .strided import transposed
from .vectors import load_lanes, store_lanes

ROWS = 8
"""Rows of weights that are multiplied side by side."""
STATES = ("hidden", "next", "cell", "reset")
"""The rows of scratch memory: the state, the one to come, LSTM's cell or GRU's z, and GRU's r*h."""


@dc.dataclass(frozen=True)
class RecurrentKernel(Kernel):
    """All time steps of sequences; unit d * batch + b is sequence b in direction `first` + d. Bit d of `backwards`: from the end."""

    parameters: ClassVar[tuple[str, ...]] = ()
    kind: str
    dtype: np.dtype
    activations: tuple[Expression, ...]
    options: tuple[str, ...]
    """Operands that are there, and "linear_before_reset" or "input_forget"."""
    length_bytes: int = 0

    @property
    def signature(self) -> tuple[str, ...]:
        optional = tuple(f"{name}*" for name in ("bias", "lengths", "hidden", "cell", "peephole") if name in self.options)
        results = ("y*", "y_hidden*", *(("y_cell*",) if self.kind == "lstm" else ()))
        numbers = ("scratch_bytes", "time", "directions", "first", "batch", "features", "extent", "backwards")
        return ("x*", "weight*", "recurrent*", *optional, *results, "scratch*", *numbers)

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one RecurrentKernel. `extent` is the length of the state."""

    def __init__(self, spec: RecurrentKernel, k: Emitter) -> None:
        self.spec, self.k, self.dtype, self.size = spec, k, spec.dtype, spec.dtype.itemsize
        self.lanes = k.target.lanes(spec.dtype)
        self.vector = k.vector(spec.dtype)
        self.base = {name[:-1]: k.pointer(name[:-1]) for name in spec.signature if name.endswith("*")}
        self.number = {name: k.argument(name) for name in spec.signature if not name.endswith("*")}
        self.gates = {"rnn": 1, "gru": 3, "lstm": 4}[spec.kind]
        self.steps: dict[str, Callable[[Value], None]] = {"rnn": self.rnn, "gru": self.gru, "lstm": self.lstm}

    def write(self) -> None:
        k, number = self.k, self.number
        self.scratch = k.at(self.base["scratch"], k.mul(k.thread, number["scratch_bytes"]))
        row_bytes = k.b.udiv(number["scratch_bytes"], k.integer(len(STATES)))
        self.state = {name: k.at(self.scratch, k.mul(row_bytes, i)) for i, name in enumerate(STATES)}
        with k.units() as unit:
            part, item = k.divmod(unit.index, number["batch"])
            direction = k.add(part, number["first"])
            self.enter(direction, item)
            backwards = k.b.trunc(k.b.lshr(number["backwards"], direction), ir.IntType(1))
            with k.loop(0, number["time"]) as step:
                last = k.sub(k.sub(number["time"], 1), step.index)
                self.step(k.b.select(backwards, last, step.index), direction, item)
            self.leave(k.add(k.mul(direction, number["batch"]), item))

    def enter(self, direction: Value, item: Value) -> None:
        """Where the operands of this direction begin; the initial states; the length of the sequence."""
        k, number = self.k, self.number
        rows = k.mul(k.mul(direction, number["extent"]), self.gates * self.size)
        self.weight = k.at(self.base["weight"], k.mul(rows, number["features"]))
        self.recurrent = k.at(self.base["recurrent"], k.mul(rows, number["extent"]))
        self.bias = k.at(self.base["bias"], k.mul(rows, 2)) if "bias" in self.base else None
        if "peephole" in self.base:
            self.peephole = k.at(self.base["peephole"], k.mul(k.mul(direction, number["extent"]), 3 * self.size))
        self.length = number["time"]
        if "lengths" in self.base:
            kind = ir.IntType(8 * self.spec.length_bytes)
            length = k.load(self.base["lengths"], kind, k.mul(item, self.spec.length_bytes))
            self.length = length if kind == I64 else k.b.sext(length, I64)
        start = self.place(k.add(k.mul(direction, number["batch"]), item))
        for name in ("hidden", "cell"):
            with self.blocks() as (j, mask):
                initial = load_lanes(k, k.at(k.at(self.base[name], start), j), self.dtype, self.lanes, mask) if name in self.base else None
                self.put(name, j, initial if initial is not None else k.splat(0.0, self.vector))

    def leave(self, row: Value) -> None:
        """The last states are results too."""
        for name in ("hidden", "cell") if self.spec.kind == "lstm" else ("hidden",):
            with self.blocks() as (j, mask):
                target = self.k.at(self.base[f"y_{name}"], self.k.add(self.place(row), j))
                store_lanes(self.k, self.get(name, j), target, self.dtype, mask)

    def place(self, row: Value) -> Value:
        """The bytes before row number `row` of a state."""
        return self.k.mul(self.k.mul(row, self.number["extent"]), self.size)

    @contextlib.contextmanager
    def blocks(self) -> Iterator[tuple[Value, Value]]:
        """`with blocks() as (offset in bytes, mask)`: the vectors of a state."""
        k, extent = self.k, self.number["extent"]
        with k.loop(0, extent, self.lanes) as loop:
            yield k.mul(loop.index, self.size), k.mask_below(k.sub(extent, loop.index), self.lanes)

    def get(self, name: str, offset: Value) -> Value:
        return load_lanes(self.k, self.k.at(self.state[name], offset), self.dtype, self.lanes)

    def put(self, name: str, offset: Value, value: Value) -> None:
        store_lanes(self.k, value, self.k.at(self.state[name], offset), self.dtype)

    def step(self, t: Value, direction: Value, item: Value) -> None:
        """One step in time: the new state into y; zeros once the sequence has ended, whose state stays."""
        k, number = self.k, self.number
        row = k.add(k.mul(k.add(k.mul(t, number["directions"]), direction), number["batch"]), item)
        y = k.at(self.base["y"], self.place(row))
        x_row = k.mul(k.add(k.mul(t, number["batch"]), item), number["features"])
        self.x = k.at(self.base["x"], k.mul(x_row, self.size))
        with k.b.if_else(k.b.icmp_signed("<", t, self.length)) as (alive, ended):
            with alive:
                with self.blocks() as (j, _):
                    self.steps[self.spec.kind](j)
                if self.is_reset_first:
                    with self.blocks() as (j, _):
                        self.gru_after_reset(j)
                with self.blocks() as (j, mask):
                    self.put("hidden", j, self.get("next", j))
                    store_lanes(k, self.get("next", j), k.at(y, j), self.dtype, mask)
            with ended, self.blocks() as (j, mask):
                store_lanes(k, k.splat(0.0, self.vector), k.at(y, j), self.dtype, mask)

    @property
    def is_reset_first(self) -> bool:
        """Whether r*h must be complete before the product with it."""
        return self.spec.kind == "gru" and "linear_before_reset" not in self.spec.options

    def rnn(self, j: Value) -> None:
        self.put("next", j, self.activate(0, self.gate(0, j)))

    def gru(self, j: Value) -> None:
        k = self.k
        z, r = (self.activate(0, self.gate(g, j)) for g in (0, 1))
        if self.is_reset_first:
            self.put("cell", j, z)
            self.put("reset", j, k.b.fmul(r, self.get("hidden", j)))
        else:
            inner = k.b.fmul(r, self.gate(2, j, x=False))
            self.mix(j, z, k.b.fadd(self.gate(2, j, state=None), inner))

    def gru_after_reset(self, j: Value) -> None:
        self.mix(j, self.get("cell", j), self.gate(2, j, state="reset"))

    def mix(self, j: Value, z: Value, candidate: Value) -> None:
        """h' = (1 - z) * g(candidate) + z * h."""
        k, new = self.k, self.activate(1, candidate)
        self.put("next", j, k.fma(z, k.b.fsub(self.get("hidden", j), new), new))

    def lstm(self, j: Value) -> None:
        k, cell = self.k, self.get("cell", j)
        i = self.activate(0, self.peep(0, j, cell, self.gate(0, j)))
        if "input_forget" in self.spec.options:
            f = k.b.fsub(k.splat(1.0, self.vector), i)
        else:
            f = self.activate(0, self.peep(2, j, cell, self.gate(2, j)))
        new = k.fma(f, cell, k.b.fmul(i, self.activate(1, self.gate(3, j))))
        o = self.activate(0, self.peep(1, j, new, self.gate(1, j)))
        self.put("cell", j, new)
        self.put("next", j, k.b.fmul(o, self.activate(2, new)))

    def peep(self, gate: int, j: Value, cell: Value, value: Value) -> Value:
        """The gate's sum with what it sees of the cell."""
        if "peephole" not in self.base:
            return value
        return self.k.fma(self.gate_vector(self.peephole, gate, j), cell, value)

    def activate(self, number: int, value: Value) -> Value:
        return emit_expression(self.k, self.spec.activations[number], [value], [self.dtype])

    def gate_vector(self, base: Value, gate: int, j: Value) -> Value:
        """A vector of a gate's bias or peephole."""
        k = self.k
        mask = k.mask_below(k.sub(self.number["extent"], self.index(j)), self.lanes)
        return load_lanes(k, k.at(k.at(base, self.place(k.integer(gate))), j), self.dtype, self.lanes, mask)

    def index(self, j: Value) -> Value:
        return self.k.b.udiv(j, self.k.integer(self.size))

    def gate(self, gate: int, j: Value, x: bool = True, state: str | None = "hidden") -> Value:
        """x W^T + h R^T + biases for a vector of one gate; of these only what is asked for."""
        k = self.k
        first, products = self.index(j), []
        if x:
            products.append((self.weight, self.number["features"], self.x))
        if state:
            products.append((self.recurrent, self.number["extent"], self.state[state]))
        sums: list[Value] = []
        for group in range(0, self.lanes, ROWS):
            rows = [self.row(gate, k.add(first, group + r)) for r in range(min(ROWS, self.lanes))]
            partial = [k.splat(0.0, self.vector)] * len(rows)
            for matrix, count, vector in products:
                width = k.mul(count, self.size)
                partial = self.dots([k.at(matrix, k.mul(row, width)) for row in rows], vector, count, partial)
            sums += partial
        terms = transposed(k, sums, self.size)
        terms += [self.gate_vector(self.bias, gate + half * self.gates, j) for half, has in ((0, x), (1, state)) if has and self.bias]
        return functools.reduce(k.b.fadd, terms)

    def row(self, gate: int, index: Value) -> Value:
        """A row of a gate's weights; past the last one the last again, whose sum nobody keeps."""
        k, extent = self.k, self.number["extent"]
        return k.add(k.minimum(index, k.sub(extent, 1)), k.mul(extent, gate))

    def dots(self, rows: list[Value], vector: Value, count: Value, sums: list[Value]) -> list[Value]:
        """The sums plus, lane by lane, the products of each row with the vector."""
        k = self.k
        whole = k.b.and_(count, ir.Constant(I64, -self.lanes))
        with k.loop(0, whole, self.lanes, carried=sums) as loop:
            offset = k.mul(loop.index, self.size)
            shared = k.load(vector, self.vector, offset)
            loop.carry([k.fma(k.load(row, self.vector, offset), shared, total) for row, total in zip(rows, loop.values, strict=True)])
        with k.loop(whole, count, self.lanes, carried=loop.results) as rest:
            offset, mask = k.mul(rest.index, self.size), k.mask_below(k.sub(count, whole), self.lanes)
            shared, *parts = (k.masked_load(p, self.vector, mask, offset) for p in (vector, *rows))
            rest.carry([k.fma(part, shared, total) for part, total in zip(parts, rest.values, strict=True)])
        return rest.results


@lowers(RNN, GRU, LSTM)
def lower_recurrent(node: Recurrent, machine: Machine) -> list[Call]:
    """A call for each run of directions with the same activations: nearly always one."""
    dtype = node.x.type.dtype
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise NoKernel(f"a recurrent layer in {dtype}")
    backwards = sum(1 << d for d, reverse in enumerate(DIRECTIONS[node.direction]) if reverse)
    activations = [tuple(_clipped(f, node.clip if i < 2 else None) for i, f in enumerate(fs)) for fs in activation_expressions(node)]
    for function in (f for part in activations for f in part):
        if reason := unsupported(function, [dtype]):
            raise NoKernel(reason)
    groups = [(0, len(activations))] if len(set(activations)) == 1 else [(d, 1) for d in range(len(activations))]
    return [_call(node, machine, activations[first], first, count, backwards) for first, count in groups]


def _clipped(function: Expression, bound: float | None) -> Expression:
    return function if bound is None else substitute(function, (apply("clip", IDENTITY, -bound, bound),))


def _call(node: Recurrent, machine: Machine, activations: tuple[Expression, ...], first: int, count: int, backwards: int) -> Call:
    """The step for directions first to first + count."""
    time, directions, batch, extent = node.types[0].shape
    dtype = node.x.type.dtype
    given: dict[str, Node] = {name: operand for name in node.operand_names if (operand := getattr(node, name)) is not None}
    options = tuple(name for name in given if name not in ("x", "weight", "recurrent"))
    options += tuple(name for name in ("linear_before_reset", "input_forget") if getattr(node, name, False))
    length_bytes = given["lengths"].type.dtype.itemsize if "lengths" in given else 0
    kernel = RecurrentKernel(type(node).__name__.lower(), dtype, activations, options, length_bytes)
    lanes = machine.target.lanes(dtype)
    scratch = Scratch(len(STATES) * -(-extent // lanes) * machine.target.vector_bytes)
    results = zip(("y", "y_hidden", "y_cell"), range(len(node.types)), strict=False)
    arguments: dict[str, Argument] = {name: Address(node, result_offset(node, i)) for name, i in results}
    arguments |= {"scratch": scratch, "scratch_bytes": scratch.nbytes, "time": time, "directions": directions, "first": first}
    arguments |= {"batch": batch, "features": node.x.type.shape[2], "extent": extent, "backwards": backwards}
    return Call(kernel, given | arguments, count * batch)
