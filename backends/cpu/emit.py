"""Writing kernels: a thin layer over llvmlite.ir with the kernel ABI, loops, vectors and masks.

ABI of every kernel: `void kernel(ptr args, ptr bases, i64 begin, i64 end, i64 thread)`. It does the units [begin, end) of a step.
`args` is the step's read-only block of i64; a parameter named `x*` is an address and takes two of them, (base index, byte offset).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import llvmlite.ir as ir
import numpy as np

from .target import Target

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
F32, F64 = ir.FloatType(), ir.DoubleType()
POINTER, VOID = ir.PointerType(), ir.VoidType()
SCALARS: dict[str, Any] = {"f2": ir.HalfType(), "f4": F32, "f8": F64, "b1": I8}
KERNEL_TYPE = ir.FunctionType(VOID, [POINTER, POINTER, I64, I64, I64])

Value = Any
"""An llvmlite.ir value."""


def scalar_type(dtype: np.dtype) -> Any:
    """The LLVM type of one element in memory; bool is a byte."""
    dtype = np.dtype(dtype)
    return SCALARS.get(f"{dtype.kind}{dtype.itemsize}") or ir.IntType(dtype.itemsize * 8)


class Loop:
    """The running loop inside `with emitter.loop(...) as loop`: its index, carried values, and how they go on."""

    def __init__(self, index: Value, values: list[Value]) -> None:
        self.index, self.values = index, values
        self.next: list[Value] = list(values)
        self.results: list[Value] = []

    def carry(self, values: Sequence[Value]) -> None:
        """The carried values of the next iteration; after the loop they are `results`."""
        self.next = list(values)


class Emitter:
    """One LLVM module with one kernel, under construction."""

    def __init__(self, symbol: str, parameters: Sequence[str], target: Target) -> None:
        self.target = target
        self.module = ir.Module(symbol)
        self.function = ir.Function(self.module, KERNEL_TYPE, symbol)
        for name in ("nounwind",):
            self.function.attributes.add(name)
        self.args, self.bases, self.begin, self.end, self.thread = self.function.args
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))
        self._slots = dict(zip(parameters, slots(parameters), strict=True))

    def text(self) -> str:
        """Close the kernel; the module as IR text."""
        self.b.ret_void()
        return str(self.module)

    # parameters

    def argument(self, name: str) -> Value:
        """The i64 parameter of this name."""
        return self.load(self.args, I64, 8 * self._slots[name], align=8)

    def pointer(self, name: str) -> Value:
        """The address parameter `name*`."""
        slot = self._slots[name + "*"]
        base = self.b.gep(self.bases, [self.load(self.args, I64, 8 * slot, align=8)], source_etype=I64)
        return self.at(self.b.load(base, typ=POINTER, align=8), self.load(self.args, I64, 8 * slot + 8, align=8))

    # integers and addresses

    def integer(self, value: Value | int) -> Value:
        """An i64, from a Python int where it is one."""
        return ir.Constant(I64, int(value)) if isinstance(value, int | np.integer) else value

    def add(self, a: Value | int, b: Value | int) -> Value:
        return a + b if isinstance(a, int) and isinstance(b, int) else self.b.add(self.integer(a), self.integer(b))

    def sub(self, a: Value | int, b: Value | int) -> Value:
        return a - b if isinstance(a, int) and isinstance(b, int) else self.b.sub(self.integer(a), self.integer(b))

    def mul(self, a: Value | int, b: Value | int) -> Value:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if isinstance(b, int) and b == 1:
            return a
        return self.b.mul(self.integer(a), self.integer(b))

    def divmod(self, a: Value, b: Value | int) -> tuple[Value, Value]:
        """Quotient and remainder of non-negative integers."""
        return self.b.udiv(a, self.integer(b)), self.b.urem(a, self.integer(b))

    def minimum(self, a: Value | int, b: Value | int) -> Value:
        a, b = self.integer(a), self.integer(b)
        return self.b.select(self.b.icmp_signed("<", a, b), a, b)

    def maximum(self, a: Value | int, b: Value | int) -> Value:
        a, b = self.integer(a), self.integer(b)
        return self.b.select(self.b.icmp_signed(">", a, b), a, b)

    def at(self, pointer: Value, offset: Value | int) -> Value:
        """The pointer moved by `offset` bytes."""
        return pointer if isinstance(offset, int) and offset == 0 else self.b.gep(pointer, [self.integer(offset)], source_etype=I8)

    # memory; nothing is assumed about alignment unless it is said

    def load(self, pointer: Value, kind: Any, offset: Value | int = 0, align: int | None = None) -> Value:
        """A value of LLVM type `kind` at pointer + offset bytes."""
        return self.b.load(self.at(pointer, offset), typ=kind, align=align or natural_alignment(kind))

    def store(self, value: Value, pointer: Value, offset: Value | int = 0, align: int | None = None) -> None:
        self.b.store(value, self.at(pointer, offset), align=align or natural_alignment(value.type))

    def prefetch(self, pointer: Value, offset: Value | int = 0) -> None:
        """Ask for the cache line at pointer + offset bytes; harmless past the end of memory."""
        how = [ir.Constant(I32, number) for number in (0, 3, 1)]  # to read, into every cache, data
        self.intrinsic("llvm.prefetch", VOID, [self.at(pointer, offset), *how], [POINTER])

    def masked_load(self, pointer: Value, kind: Any, mask: Value, offset: Value | int = 0, other: float = 0) -> Value:
        """The lanes of a vector where `mask` is set; `other` in the rest, whose memory is not touched."""
        rest = self.splat(other, kind)
        return self.intrinsic("llvm.masked.load", kind, [self.at(pointer, offset), self._alignment(kind), mask, rest], [kind, POINTER])

    def masked_store(self, value: Value, pointer: Value, mask: Value, offset: Value | int = 0) -> None:
        """Store only the lanes where `mask` is set."""
        args = [value, self.at(pointer, offset), self._alignment(value.type), mask]
        self.intrinsic("llvm.masked.store", VOID, args, [value.type, POINTER])

    def _alignment(self, kind: Any) -> Value:
        return ir.Constant(I32, natural_alignment(kind))

    # vectors

    def vector(self, dtype: np.dtype, lanes: int | None = None) -> Any:
        """The LLVM vector type of `lanes` elements; by default as many as the target's registers hold."""
        return ir.VectorType(scalar_type(dtype), lanes or self.target.lanes(np.dtype(dtype)))

    def splat(self, value: Value | float, kind: Any) -> Value:
        """A vector whose lanes all hold `value`."""
        if isinstance(value, bool | int | float | np.number):
            return ir.Constant(kind, [constant_text(value, kind.element)] * kind.count)
        first = self.b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
        return self.shuffle(first, first, [0] * kind.count)

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Lane i of the result is lane `lanes[i]` of a followed by b."""
        return self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, fused where the target can."""
        return self.intrinsic("llvm.fmuladd", a.type, [a, b, c])

    def mask_below(self, count: Value, lanes: int) -> Value:
        """A mask of `lanes` bits whose first `count` (an i64) are set."""
        kind = ir.VectorType(I64, lanes)
        numbers = ir.Constant(kind, list(range(lanes)))
        return self.b.icmp_signed("<", numbers, self.splat(self.integer(count), kind))

    def intrinsic(self, name: str, result: Any, args: Sequence[Value], overloads: Sequence[Any] | None = None) -> Value:
        """Call an LLVM intrinsic, declared on first use under its mangled name."""
        suffix = ".".join(mangled(t) for t in (overloads if overloads is not None else [args[0].type]))
        full = f"{name}.{suffix}" if suffix else name
        declared = self.module.globals.get(full)
        if declared is None:
            declared = ir.Function(self.module, ir.FunctionType(result, [a.type for a in args]), full)
        return self.b.call(declared, list(args))

    # control flow

    @contextlib.contextmanager
    def loop(
        self, start: Value | int, stop: Value | int, step: Value | int = 1, carried: Sequence[Value] = (), nonempty: bool = False
    ) -> Iterator[Loop]:
        """for index in range(start, stop, step), with values carried from one iteration to the next; tested at its end.

        `nonempty` promises that there is at least one iteration and saves the test before it.
        """
        start, stop, step = self.integer(start), self.integer(stop), self.integer(step)
        before = self.b.block
        body, after = self.function.append_basic_block("loop"), self.function.append_basic_block("after")
        if nonempty:
            self.b.branch(body)
        else:
            self.b.cbranch(self.b.icmp_signed("<", start, stop), body, after)
        self.b.position_at_end(body)
        index = self.b.phi(I64)
        index.add_incoming(start, before)
        phis = []
        for value in carried:
            phis.append(self.b.phi(value.type))
            phis[-1].add_incoming(value, before)
        loop = Loop(index, phis)
        yield loop
        following, last = self.b.add(index, step), self.b.block
        index.add_incoming(following, last)
        for phi, value in zip(phis, loop.next, strict=True):
            phi.add_incoming(value, last)
        self.b.cbranch(self.b.icmp_signed("<", following, stop), body, after)
        self.b.position_at_end(after)
        loop.results = loop.next if nonempty else self._merge(zip(loop.next, carried, strict=True), last, before)

    def _merge(self, pairs: Any, last: Any, before: Any) -> list[Value]:
        merged = []
        for new, initial in pairs:
            phi = self.b.phi(new.type)
            phi.add_incoming(new, last)
            phi.add_incoming(initial, before)
            merged.append(phi)
        return merged

    @contextlib.contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Do the block only if the i1 condition holds."""
        with self.b.if_then(condition):
            yield

    def units(self) -> contextlib.AbstractContextManager[Loop]:
        """The loop over the units [begin, end) that this call was given; there is at least one."""
        return self.loop(self.begin, self.end, nonempty=True)


def slots(parameters: Sequence[str]) -> list[int]:
    """The first i64 slot of each parameter: addresses take two, numbers one."""
    found, position = [], 0
    for name in parameters:
        found.append(position)
        position += 2 if name.endswith("*") else 1
    return found


def natural_alignment(kind: Any) -> int:
    """The alignment of one element of the type, in bytes."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    if isinstance(element, ir.IntType):
        return max(1, element.width // 8)
    return {ir.HalfType: 2, ir.FloatType: 4, ir.DoubleType: 8}.get(type(element), 8)


def mangled(kind: Any) -> str:
    """How LLVM spells a type in the name of an overloaded intrinsic."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{mangled(kind.element)}"
    if isinstance(kind, ir.PointerType):
        return "p0"
    if isinstance(kind, ir.IntType):
        return f"i{kind.width}"
    return {ir.HalfType: "f16", ir.FloatType: "f32", ir.DoubleType: "f64"}[type(kind)]


def constant_text(value: Any, element: Any) -> Any:
    """A Python number as llvmlite wants it for this element type; numbers are rounded to the type."""
    if isinstance(element, ir.IntType):
        return int(value)
    rounded = {ir.HalfType: np.float16, ir.FloatType: np.float32, ir.DoubleType: np.float64}[type(element)]
    return float(rounded(value))
